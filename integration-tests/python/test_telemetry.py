"""Traces, metrics and logs as a real collector and a real Prometheus get them."""

import collections
import concurrent.futures
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import threading
import urllib.request

import adbc_driver_flightsql.dbapi as flightsql
import grpc
import pytest
from conftest import BINARY, wait_until
from fleet import Fleet
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from simulation import Simulation
from simulation import settings as workspace

PHASES = {"parse", "plan", "prune", "decide", "queue", "execute", "stream"}
CALL = "arrow.flight.protocol.FlightService/DoGet"
SERVER, CLIENT = 2, 3
ERROR = 2


class Collector:
    """An OTLP receiver over gRPC that keeps what it is sent."""

    def __init__(self, port=0):
        self.spans = []
        self.metrics = set()
        self.lines = []
        self.headers = []
        self._lock = threading.Lock()
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self._Traces(self), self._server)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(self._Metrics(self), self._server)
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(self._Logs(self), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
        def __init__(self, owner):
            self.owner = owner

        def Export(self, request, context):
            found = [
                Span(span, {a.key: a.value.string_value for a in of.resource.attributes})
                for of in request.resource_spans
                for scope in of.scope_spans
                for span in scope.spans
            ]
            with self.owner._lock:
                self.owner.spans += found
                self.owner.headers.append(dict(context.invocation_metadata()))
            return trace_service_pb2.ExportTraceServiceResponse()

    class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
        def __init__(self, owner):
            self.owner = owner

        def Export(self, request, context):
            for of in request.resource_metrics:
                for scope in of.scope_metrics:
                    self.owner.metrics |= {m.name for m in scope.metrics}
            return metrics_service_pb2.ExportMetricsServiceResponse()

    class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
        def __init__(self, owner):
            self.owner = owner

        def Export(self, request, context):
            found = [
                Line(record, scope.scope.name, {a.key: a.value.string_value for a in of.resource.attributes})
                for of in request.resource_logs
                for scope in of.scope_logs
                for record in scope.log_records
            ]
            with self.owner._lock:
                self.owner.lines += found
            return logs_service_pb2.ExportLogsServiceResponse()

    def of_trace(self, trace_id):
        with self._lock:
            return [s for s in self.spans if s.trace_id == trace_id]

    def stop(self):
        self._server.stop(None).wait()


class Span:
    def __init__(self, proto, resource):
        self.name = proto.name
        self.kind = proto.kind
        self.trace_id = proto.trace_id.hex()
        self.id = proto.span_id.hex()
        self.parent = proto.parent_span_id.hex()
        self.state = proto.trace_state
        self.start, self.end = proto.start_time_unix_nano, proto.end_time_unix_nano
        self.status = proto.status
        self.events = list(proto.events)
        self.links = [(link.trace_id.hex(), link.span_id.hex()) for link in proto.links]
        self.service = resource.get("service.name")
        self.attributes = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in proto.attributes}

    def __repr__(self):
        return f"{self.service}/{self.name}({self.id} in {self.parent} {self.attributes} {self.status.message})"


class Line:
    def __init__(self, proto, target, resource):
        self.text = proto.body.string_value
        self.level = proto.severity_text
        self.trace_id, self.span_id = proto.trace_id.hex(), proto.span_id.hex()
        self.target = target
        self.service = resource.get("service.name")
        self.attributes = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in proto.attributes}

    def __repr__(self):
        return f"{self.service}/{self.target} {self.level} {self.text} {self.attributes}"


@pytest.fixture
def collector():
    one = Collector()
    yield one
    one.stop()


def traceparent():
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return trace_id, span_id, f"00-{trace_id}-{span_id}-01"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def settings(collector_port=None, page_port=None, more=""):
    lines = ["[telemetry]"]
    if collector_port:
        lines.append(f'otlp_endpoint = "http://127.0.0.1:{collector_port}"')
    if page_port:
        lines.append(f'prometheus = "127.0.0.1:{page_port}"')
    return "\n".join(lines) + "\n" + more


# Spans leave soon, not after the standard's five seconds.
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_BLRP_SCHEDULE_DELAY": "100"}


def traced(one, sql, parent, engine=None, fetch=True, state=None):
    """Runs a statement as a client that traces does: its context is in a header of each call."""
    context = {"traceparent": parent, **({"tracestate": state} if state else {})}
    headers = {f"adbc.flight.sql.rpc.call_header.{name}": value for name, value in context.items()}
    with one.connect(engine, **headers) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table() if fetch else None


def page(port, token=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    values = {}
    for line in text.splitlines():
        if found := re.match(r"(\w+)(?:\{(.*)\})? (\S+)$", line):
            labels = frozenset(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
            values[found[1], labels] = float(found[3])
    return values


def total(values, name, **labels):
    wanted = set(labels.items())
    return sum(v for (n, have), v in values.items() if n == name and wanted <= have)


@pytest.fixture
def ended(collector):
    """All spans of a trace whose router's and worker's parts have come."""

    def wait(trace_id, names, service=None):
        def there():
            have = collections.Counter(s.name for s in collector.of_trace(trace_id) if service in (None, s.service))
            return not collections.Counter(names) - have

        wait_until(there, what=f"spans {sorted(names)} of {trace_id}")
        return collector.of_trace(trace_id)

    return wait


def test_a_clients_trace_goes_through_router_and_worker(server, collector, ended, tpch_dir):
    more = 'service_name = "lakehouse"\notlp_headers = "x-api-key=hush%20hush"\nresource_attributes = "deployment.environment.name=test"\n'
    one = server("--data", tpch_dir, env=SOON, settings=settings(collector.port, more=more))
    trace_id, client_span, parent = traceparent()
    rows = traced(one, "SELECT l_returnflag, count(*) FROM lineitem WHERE l_quantity > 17 GROUP BY ALL", parent, engine="duckdb").num_rows
    # ADBC prepares each statement, plans it thereby, and then runs it.
    ended(trace_id, ["query", "prepare", CALL, *PHASES], "lakehouse")
    spans = ended(trace_id, [CALL, "queue", "execute", "stream"], "lakehouse-worker")
    assert all(s.trace_id == trace_id for s in spans)
    by_id = {s.id: s for s in spans}
    assert len(by_id) == len(spans), "each span comes once"

    def one_of(name, service="lakehouse", **attributes):
        found = [s for s in spans if s.name == name and s.service == service and attributes.items() <= s.attributes.items()]
        assert len(found) == 1, (name, found)
        return found[0]

    query = one_of("query")
    assert query.parent == client_span and query.kind == SERVER
    assert one_of("prepare").parent == client_span
    for name in ("decide", "queue", "execute", "stream"):
        assert one_of(name).parent == query.id, name
    assert {by_id[s.parent].name for s in spans if s.name == "plan"} == {"query", "prepare"}
    assert by_id[one_of("parse").parent].name == "plan" and by_id[one_of("prune").parent].name == "plan"
    call = one_of(CALL)
    assert call.parent == one_of("execute").id and call.kind == CLIENT
    worker = one_of(CALL, "lakehouse-worker")
    assert worker.parent == call.id and worker.kind == SERVER
    for name in ("queue", "execute", "stream"):
        assert one_of(name, "lakehouse-worker").parent == worker.id, name

    assert query.attributes["db.system.name"] == "flightpath"
    assert query.attributes["db.namespace"] == "lake.default"
    assert query.attributes["db.operation.name"] == "query"
    assert query.attributes["db.response.returned_rows"] == rows == query.attributes["flightpath.rows"]
    assert query.attributes["flightpath.engine"] == "duckdb" and query.attributes["flightpath.outcome"] == "success"
    assert query.attributes["flightpath.bytes"] > 0 and len(query.attributes["flightpath.fingerprint"]) == 16
    assert query.status.code == 0
    assert one_of("decide").attributes["flightpath.refusals"] == "datafusion:policy"
    assert one_of("prune").attributes["flightpath.files_total"] >= one_of("prune").attributes["flightpath.files"] > 0
    assert one_of("execute").attributes["db.system.name"] == "duckdb"
    for end in (call, worker):
        assert end.attributes["rpc.system.name"] == "grpc" and end.attributes["rpc.method"] == CALL
        assert end.attributes["rpc.response.status_code"] == "OK" and "rpc.service" not in end.attributes
    # A socket's path, or a host with its port.
    assert call.attributes["server.address"].startswith("/") or call.attributes["server.port"] > 0
    assert worker.attributes["flightpath.query_id"] == query.attributes["flightpath.query_id"]
    assert query.start <= one_of("execute").start <= one_of("stream").start <= one_of("stream").end <= query.end
    # What the statement says and what the log says is nobody's business.
    assert "l_returnflag" not in repr(spans) and all(s.events == [] for s in spans)
    assert {h.get("x-api-key") for h in collector.headers} == {"hush hush"}
    assert "hush" not in one.stderr()
    assert collector.lines == [], "lines are sent only when told to"
    log = one.query("SELECT query_id FROM system.queries WHERE text LIKE '%l_quantity > 17%' AND outcome = 'success'").to_pylist()
    assert query.attributes["flightpath.query_id"] in {r["query_id"] for r in log}


def test_a_client_without_a_trace_has_one_for_preparing_and_running(server, collector, tpch_dir):
    one = server("--data", tpch_dir, env=SOON, settings=settings(collector.port))
    with one.connect("duckdb") as connection, connection.cursor() as cursor:
        cursor.adbc_prepare("SELECT count(*) FROM nation WHERE n_nationkey > ?")
        for least in range(3):
            cursor.execute("SELECT count(*) FROM nation WHERE n_nationkey > ?", [least])
            assert cursor.fetchall() == [(24 - least,)]
    named = lambda name: [s for s in list(collector.spans) if s.name == name]
    wait_until(lambda: len(named("query")) == 3 and named("prepare"), what="three queries' spans")
    [prepare] = named("prepare")
    first, *later = sorted(named("query"), key=lambda s: s.start)
    assert first.trace_id == prepare.trace_id and first.parent == prepare.id and first.links == []
    for query in later:
        assert query.parent == "" and query.links == [(prepare.trace_id, prepare.id)]
    assert len({s.trace_id for s in [first, *later]}) == 3
    # Without preparing, too.
    alone = {s.trace_id for s in named("query")}
    one.query("SELECT 7 AS n")
    wait_until(lambda: len(named("query")) == 4, what="the fourth query's span")
    [fourth] = [s for s in named("query") if s.trace_id not in alone]
    assert {s.name for s in collector.of_trace(fourth.trace_id)} >= {"query", "prepare", "parse", "decide"}


def test_what_other_systems_tell_along_with_a_trace_goes_along(server, collector, ended, tpch_dir):
    one = server("--data", tpch_dir, env=SOON, settings=settings(collector.port))
    sql = "SELECT count(*) FROM nation"
    for state, carried in (("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", True), ("x" * 600 + "=1", False)):
        trace_id, _, parent = traceparent()
        traced(one, sql, parent, engine="duckdb", state=state)
        spans = ended(trace_id, ["query", CALL], "flightpath") + ended(trace_id, [CALL, "stream"], "flightpath-worker")
        assert {s.state for s in spans} == {state if carried else ""}


def test_a_clients_trace_reaches_the_warehouse_as_a_tag(server, collector, ended, tpch_dir, tmp_path):
    principals = {"ana": "token-of-ana"}
    simulation = Simulation(tmp_path / "simulation", tpch_dir, principals)
    try:
        own = workspace(simulation, principals, tpch_dir)
        one = server(env=SOON, settings=own + settings(collector.port))
        trace_id, _, parent = traceparent()
        headers = {"adbc.flight.sql.authorization_header": "Bearer token-of-ana", "adbc.flight.sql.rpc.call_header.traceparent": parent}
        headers["adbc.flight.sql.rpc.call_header.flightpath-engine"] = "databricks"
        with flightsql.connect(one.uri, db_kwargs=headers, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM main.default.nation")
            assert cursor.fetchall() == [(25,)]
        spans = ended(trace_id, ["query", "decide", "execute"])
        query = next(s for s in spans if s.name == "query")
        execute = next(s for s in spans if s.name == "execute")
        assert execute.attributes["db.system.name"] == "databricks" and execute.attributes["server.address"] == "127.0.0.1"
        history = urllib.request.Request(f"{simulation.url}/api/2.0/sql/history/queries", headers={"Authorization": "Bearer token-of-ana"})
        with urllib.request.urlopen(history, timeout=30) as answer:
            run = [{t["key"]: t["value"] for t in entry["query_tags"]} for entry in json.load(answer)["res"]]
        assert {"flightpath_query_id": query.attributes["flightpath.query_id"], "flightpath_trace_id": trace_id} in run
    finally:
        simulation.stop()


def test_what_a_trace_says_of_errors_and_of_clients_that_leave(server, collector, ended, tpch_dir):
    one = server("--data", tpch_dir, env=SOON, settings=settings(collector.port, more="query_text = true\n"))
    trace_id, _, parent = traceparent()
    with pytest.raises(Exception, match="22018"):
        traced(one, "SELECT CAST(n_name AS INT) FROM nation", parent)
    spans = ended(trace_id, ["query", "execute"])
    query = next(s for s in spans if s.name == "query")
    assert query.status.code == ERROR and query.status.message == "raised"
    assert query.attributes["error.type"] == "raised" and query.attributes["db.response.status_code"] == "22018"
    assert query.attributes["db.query.text"] == "SELECT CAST(n_name AS INT) FROM nation"
    assert "ALGERIA" not in repr(spans), "an error's message may hold data"

    trace_id, _, parent = traceparent()
    with pytest.raises(Exception, match="22012"):
        traced(one, "SELECT 1 / (n_nationkey - n_nationkey) FROM nation", parent, engine="duckdb")
    spans = ended(trace_id, [CALL], "flightpath") + ended(trace_id, [CALL], "flightpath-worker")
    for call in (s for s in spans if s.name == CALL):
        assert call.status.code == ERROR and call.attributes["error.type"] == "raised", call
        assert call.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"

    trace_id, _, parent = traceparent()
    with pytest.raises(Exception, match="nosuchcolumn"):
        traced(one, "SELECT nosuchcolumn FROM nation", parent)
    failed = [s for s in ended(trace_id, ["plan", "prepare"]) if s.name in ("plan", "prepare")]
    assert {s.name for s in failed} == {"plan", "prepare"}
    for span in failed:
        assert span.status.code == ERROR and span.status.message == span.attributes["error.type"], span

    trace_id, _, parent = traceparent()
    with one.connect("duckdb", **{"adbc.flight.sql.rpc.call_header.traceparent": parent}) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT a.l_orderkey, b.l_comment FROM lineitem a CROSS JOIN lineitem b")
        cursor.fetchone()
    spans = ended(trace_id, ["query", "stream"], "flightpath")
    for span in (s for s in spans if s.service == "flightpath" and s.name in ("query", "stream")):
        assert span.attributes["flightpath.outcome"] == "cancelled" and span.status.code != ERROR, span
    spans = ended(trace_id, [CALL, "stream"], "flightpath-worker")
    assert [s.attributes["flightpath.outcome"] for s in spans if s.service == "flightpath-worker" and s.name == CALL] == ["cancelled"]
    spans += ended(trace_id, [CALL], "flightpath")
    for call in (s for s in spans if s.name == CALL):
        assert call.attributes["rpc.response.status_code"] == "CANCELLED" and call.status.code != ERROR, call


def test_a_clients_decision_not_to_record_holds_everywhere(server, collector, ended, tpch_dir):
    one = server("--data", tpch_dir, env=SOON, settings=settings(collector.port, more="sample_ratio = 0\n"))
    unwanted, _, parent = traceparent()
    traced(one, "SELECT count(*) FROM region", parent[:-2] + "00", engine="duckdb")
    one.query("SELECT count(*) FROM nation")
    # A header that isn't one is ignored.
    traced(one, "SELECT count(*) FROM region", "00-junk", engine="duckdb")
    wanted, _, parent = traceparent()
    traced(one, "SELECT count(*) FROM region", parent, engine="duckdb")
    ended(wanted, ["query"])
    one.stop()
    assert {s.trace_id for s in collector.spans} == {wanted}


def test_the_page_counts_what_was_run(server, tpch_dir):
    port = free_port()
    one = server("--data", tpch_dir, settings=settings(page_port=port))
    assert total(page(port), "flightpath_queries_total") == 0
    with one.connect("duckdb") as connection, connection.cursor() as cursor:
        for number in range(7):
            cursor.execute(f"SELECT count(*) + {number} FROM nation")
            cursor.fetchall()
    with one.connect("datafusion") as connection, connection.cursor() as cursor:
        for number in range(5):
            cursor.execute("SELECT n_name FROM nation")
            cursor.fetchall()
    with pytest.raises(Exception, match="NOT_FOUND|42P01"):
        one.query("SELECT * FROM nowhere")
    values = page(port)
    success = {"flightpath_outcome": "success", "flightpath_statement": "query"}
    assert total(values, "flightpath_queries_total", flightpath_engine="duckdb", **success) == 7
    assert total(values, "flightpath_queries_total", flightpath_engine="datafusion", **success) == 5
    assert total(values, "flightpath_queries_total") == 13
    assert total(values, "flightpath_query_duration_seconds_count", flightpath_engine="duckdb") == 7
    assert total(values, "flightpath_query_phase_duration_seconds_count", flightpath_engine="duckdb", flightpath_phase="execute") == 7
    assert total(values, "flightpath_result_rows_total", flightpath_engine="datafusion") == 5 * 25
    assert total(values, "flightpath_errors_total", error_type="not_found") == 1
    assert total(values, "flightpath_decisions_total", flightpath_engine="duckdb", flightpath_strategy="rules") == 7
    assert total(values, "flightpath_refusals_total", flightpath_engine="datafusion", flightpath_refusal="policy") == 7
    assert total(values, "flightpath_plan_cache_total", flightpath_result="hit") > 0
    assert total(values, "flightpath_engine_up", flightpath_engine="duckdb") == 1
    assert total(values, "flightpath_engine_queued") == 0
    assert {name for name, _ in values} >= {"flightpath_connections", "flightpath_log_pending_bytes", "flightpath_engine_slots"}
    assert total(values, "flightpath_log_records_total", flightpath_state="taken") == 13
    assert total(values, "flightpath_catalog_lookups_total", flightpath_result="hit") > 5
    assert total(values, "flightpath_catalog_lookups_total", flightpath_result="miss") > 0
    # The log says the same.
    log = one.query("SELECT count(*) AS n FROM system.queries").to_pylist()
    assert log == [{"n": 13}] and total(page(port), "flightpath_queries_total") == 14
    with one.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert total(page(port), "flightpath_sessions") >= 1


def test_comparisons_are_counted_and_change_no_querys_count(server, tpch_dir):
    port = free_port()
    one = server("--data", tpch_dir, env={"FLIGHTPATH_SHADOW_SHARE": "1"}, settings=settings(page_port=port))
    one.query("SELECT l_returnflag, sum(l_quantity) FROM lineitem GROUP BY l_returnflag", engine="duckdb")
    labels = {"flightpath_engine": "duckdb", "flightpath_shadow_engine": "datafusion", "flightpath_outcome": "same"}
    wait_until(lambda: total(page(port), "flightpath_shadow_runs_total", **labels) == 1, what="the comparison's count")
    assert total(page(port), "flightpath_queries_total") == 1


def test_a_page_for_other_machines_needs_a_token_and_a_bad_setting_is_told(server, tpch_dir):
    port = free_port()
    with pytest.raises(RuntimeError, match="prometheus_token_sha256"):
        server("--data", tpch_dir, settings=f'[telemetry]\nprometheus = "0.0.0.0:{port}"\n')
    with pytest.raises(RuntimeError, match="otlp_endpoint must be a URL"):
        server("--data", tpch_dir, settings='[telemetry]\notlp_endpoint = "collector"\n')
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"  # of `test`
    server("--data", tpch_dir, settings=f'[telemetry]\nprometheus = "0.0.0.0:{port}"\nprometheus_token_sha256 = "{sha256}"\n')
    with pytest.raises(urllib.error.HTTPError, match="401"):
        page(port)
    assert total(page(port, "test"), "flightpath_queries_total") == 0


def test_a_collector_that_is_down_is_told_once_and_costs_no_query(server, ended, tpch_dir):
    port, page_port = free_port(), free_port()
    one = server("--data", tpch_dir, env=SOON, settings=settings(port, page_port))
    with one.connect() as connection, connection.cursor() as cursor:
        for number in range(300):
            cursor.execute(f"SELECT {number} AS n FROM region LIMIT 1")
            assert cursor.fetchall() == [(number,)]
    wait_until(lambda: total(page(page_port), "flightpath_telemetry_dropped_spans_total") > 1000, what="dropped spans")
    # The worker, whose words the router passes on, tells of it by itself.
    told = [line for line in one.stderr().splitlines() if "telemetry collector takes nothing" in line and "flightpath_worker:" not in line]
    assert len(told) == 1, one.stderr()
    # And when it comes it is found.
    late = Collector(port)
    try:

        def found():
            one.query("SELECT 1")
            return late.spans and "collector is back" in one.stderr()

        # It's asked at least every half a minute.
        wait_until(found, seconds=90, what="spans at a collector that came late")
    finally:
        late.stop()
    assert one.stop() == 0


def test_what_still_waits_is_sent_at_the_end(server, collector, tpch_dir):
    one = server("--data", tpch_dir, env={"OTEL_BSP_SCHEDULE_DELAY": "3600000"}, settings=settings(collector.port))
    trace_id, _, parent = traceparent()
    traced(one, "SELECT count(*) FROM nation", parent, engine="duckdb")
    assert collector.spans == []
    assert one.stop(signal.SIGTERM) == 0
    services = {s.service for s in collector.of_trace(trace_id)}
    assert services == {"flightpath", "flightpath-worker"}
    assert {"flightpath.query.duration", "flightpath.queries", "flightpath.log.records"} <= collector.metrics


def test_the_standards_variables_switch_it_on(server, collector, ended, tpch_dir):
    env = {**SOON, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}", "OTEL_SERVICE_NAME": "by-variable"}
    one = server("--data", tpch_dir, env=env)
    trace_id, _, parent = traceparent()
    traced(one, "SELECT count(*) FROM nation", parent, engine="duckdb")
    ended(trace_id, ["query"], "by-variable")
    ended(trace_id, [CALL], "by-variable-worker")


def test_check_tells_whether_anybody_is_there(collector, tmp_path, tpch_dir):
    def check(port):
        config = tmp_path / "flightpath.toml"
        config.write_text(settings(port, free_port()))
        environment = {"FLIGHTPATH_STATE_DIR": str(tmp_path / "state"), "FLIGHTPATH_LISTEN": "127.0.0.1:0", "PATH": os.environ["PATH"]}
        command = [BINARY, "check", "--config", str(config), "--data", str(tpch_dir)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        return done.returncode, next(line for line in done.stdout.splitlines() if "telemetry" in line)

    code, line = check(collector.port)
    assert code == 0 and line.startswith("ok ") and "takes connections" in line, line
    code, line = check(free_port())
    assert code != 0 and line.startswith("FAIL") and "can't be reached" in line, line


def test_log_lines_are_json_and_name_their_trace(server, collector, tpch_dir):
    one = server("--data", tpch_dir, env={"FLIGHTPATH_LOG_FORMAT": "json", "FLIGHTPATH_LOG_LEVEL": "debug", **SOON}, settings=settings(collector.port))
    one.query("SELECT count(*) FROM nation")
    one.stop()
    lines = [json.loads(line) for line in one.stderr().splitlines()]
    assert {"timestamp", "level", "target", "message"} <= lines[0].keys()
    assert any(line["message"] == "stopped" for line in lines)


def line_of(collector, text, **wanted):
    found = [line for line in list(collector.lines) if text in line.text and all(getattr(line, k) == v for k, v in wanted.items())]
    return found[0] if found else None


def test_log_lines_reach_the_collector_with_their_traces(server, collector, ended, tpch_dir):
    # A query that moves on to the other engine is told of in the log.
    hurried = "[routing]\nescalation_factor = 0.001\nescalation_min_seconds = 0.001\n"
    one = server("--data", tpch_dir, env=SOON, settings=settings(collector.port, more="otlp_logs = true\n" + hurried))
    trace_id, _, parent = traceparent()
    traced(one, "SELECT count(*) FROM lineitem a JOIN lineitem b ON a.l_orderkey = b.l_orderkey", parent)
    wait_until(lambda: line_of(collector, "an engine is left", trace_id=trace_id), what="a line of that trace")
    line = line_of(collector, "an engine is left", trace_id=trace_id)
    spans = {s.id: s for s in ended(trace_id, ["query"], "flightpath")}
    assert spans[line.span_id].name == "query"
    assert (line.level, line.service, line.target) == ("WARN", "flightpath", "flightpath_pipeline::run")
    assert line.attributes["query_id"] == spans[line.span_id].attributes["flightpath.query_id"]
    assert line.attributes["engine"] in ("duckdb", "datafusion")
    one.stop()
    # What is on standard error is what was sent, and the worker's words aren't sent twice.
    told = one.stderr()
    assert all(line.text in told for line in collector.lines if line.service == "flightpath")
    assert not any(line.target == "flightpath_worker" for line in collector.lines if line.service == "flightpath")
    assert "the DuckDB worker is ready" in {line.text for line in collector.lines}


def test_a_workers_lines_come_from_the_worker(collector, tmp_path, tpch_dir):
    told = settings(collector.port, more="otlp_logs = true\n")
    fleet = Fleet(tmp_path / "fleet", tpch_dir, workers=1, settings=told, worker_settings=told, environment=SOON)
    try:
        wait_until(lambda: line_of(collector, "registered", service="flightpath-worker"), what="the worker's line")
        wait_until(lambda: line_of(collector, "a worker has joined", service="flightpath"), what="the router's line")
    finally:
        fleet.end()


def test_a_collector_without_logs_still_gets_its_traces(server, ended, collector, tpch_dir):
    """Its logs service is taken away: calls to it are answered with UNIMPLEMENTED."""
    port = free_port()
    without = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector._Traces(collector), without)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(collector._Metrics(collector), without)
    without.add_insecure_port(f"127.0.0.1:{port}")
    without.start()
    try:
        page_port = free_port()
        one = server("--data", tpch_dir, env=SOON, settings=settings(port, page_port, more="otlp_logs = true\n"))
        wait_until(lambda: total(page(page_port), "flightpath_telemetry_dropped_logs_total") > 0, what="dropped lines")
        trace_id, _, parent = traceparent()
        traced(one, "SELECT count(*) FROM nation", parent, engine="duckdb")
        ended(trace_id, ["query"], "flightpath")
        assert total(page(page_port), "flightpath_telemetry_dropped_spans_total") == 0
        told = [line for line in one.stderr().splitlines() if "takes no logs" in line and "flightpath_worker:" not in line]
        assert len(told) == 1, one.stderr()
        one.stop()
    finally:
        without.stop(None).wait()
