"""The gRPC API as a service uses it: what the messages look like is learned by reflection."""

import base64
import collections
import hashlib
import signal
import subprocess
import threading

import grpc
import pytest
from conftest import BINARY, wait_until
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE = "flightpath.v1.QueryApi"
SECONDS = 30


class CallDetails(
    collections.namedtuple("CallDetails", "method timeout metadata credentials wait_for_ready compression"), grpc.ClientCallDetails
):
    pass


class WithHeaders(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):
    def __init__(self, headers):
        self.headers = headers

    def _add(self, details):
        metadata = list(details.metadata or []) + self.headers
        return CallDetails(details.method, details.timeout, metadata, details.credentials, details.wait_for_ready, details.compression)

    def intercept_unary_unary(self, continuation, details, request):
        return continuation(self._add(details), request)

    def intercept_unary_stream(self, continuation, details, request):
        return continuation(self._add(details), request)

    def intercept_stream_stream(self, continuation, details, requests):
        return continuation(self._add(details), requests)


class Api:
    """A client that knows of the API what the server tells it."""

    def __init__(self, server, authorization=None, **settings):
        self.plain = grpc.insecure_channel(server.uri.removeprefix("grpc://"))
        headers = [("authorization", authorization)] if authorization else []
        headers += [(f"flightpath-{name}", value) for name, value in settings.items()]
        self.channel = grpc.intercept_channel(self.plain, WithHeaders(headers))
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.service = None

    def _method(self, name):
        if self.service is None:
            self.service = descriptor_pool.DescriptorPool(self.database).FindServiceByName(SERVICE)
        method = self.service.methods_by_name[name]
        return method, message_factory.GetMessageClass(method.input_type), message_factory.GetMessageClass(method.output_type)

    def call(self, name, timeout=SECONDS, **fields):
        method, asked, answered = self._method(name)
        path = f"/{SERVICE}/{name}"
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        return kind(path, asked.SerializeToString, answered.FromString)(asked(**fields), timeout=timeout)

    def refused(self, name, **fields):
        with pytest.raises(grpc.RpcError) as raised:
            self.call(name, **fields)
        return raised.value.code(), raised.value.details()

    def refused_stream(self, name, **fields):
        with pytest.raises(grpc.RpcError) as raised:
            next(self.call(name, **fields))
        return raised.value.code(), raised.value.details()

    def health(self, service=""):
        stub = health_pb2_grpc.HealthStub(self.plain)
        return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS).status

    def close(self):
        self.plain.close()


@pytest.fixture
def api():
    made = []

    def make(*args, **kwargs):
        made.append(Api(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def settings():
    hashed = subprocess.run([BINARY, "hash-password"], input="secret\n", capture_output=True, text=True, check=True).stdout.strip()
    token = hashlib.sha256(b"robot-token-of-the-test").hexdigest()
    return f'[[auth.users]]\nname = "ana"\npassword_hash = "{hashed}"\n[[auth.tokens]]\nprincipal = "robot"\ntoken_sha256 = "{token}"\n'


ANA = "Basic " + base64.b64encode(b"ana:secret").decode()
ROBOT = "Bearer robot-token-of-the-test"


def run(server, sql, authorization, tag):
    server.query(sql, headers={"tag": tag}, **{"adbc.flight.sql.authorization_header": authorization})


def test_reflection_lists_the_services_and_health_answers(tpch, api):
    one = api(tpch)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(one.database.get_services())
    for service in ["", SERVICE, "arrow.flight.protocol.FlightService"]:
        assert one.health(service) == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as raised:
        one.health("nobody")
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_speaks_both_versions(tpch, api, version):
    # The messages of both are alike but for their package.
    one = api(tpch)
    ask = one.plain.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    services, files = ask(iter(asked), timeout=SECONDS)
    listed = {service.name for service in services.list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health"} <= listed
    described = [descriptor_pb2.FileDescriptorProto.FromString(text) for text in files.file_descriptor_response.file_descriptor_proto]
    assert "QueryApi" in {service.name for one in described for service in one.service}
    unknown = reflection_pb2.ServerReflectionRequest(file_containing_symbol="nobody.Here")
    with pytest.raises(grpc.RpcError) as raised:
        next(ask(iter([unknown]), timeout=SECONDS))
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_route_decides_without_running(tpch, api):
    one = api(tpch)
    sql = "SELECT l_returnflag, sum(l_quantity) AS q FROM lineitem JOIN orders ON l_orderkey = o_orderkey GROUP BY 1"
    answer = one.call("Route", sql=sql)
    assert answer.statement_kind == "query" and answer.decision.engine in ("duckdb", "datafusion") and answer.decision.reason
    assert [(c.name, c.type) for c in answer.columns] == [("l_returnflag", "string"), ("q", "decimal(25,2)")]
    assert [c.rank for c in answer.decision.candidates] == [1, 2]
    for candidate in answer.decision.candidates:
        assert candidate.eligible and candidate.predicted_ms > 0 and candidate.predicted_usd > 0 and candidate.predicted_bytes > 0 and candidate.reason
        assert candidate.predicted_p95_ms >= candidate.predicted_ms and candidate.prediction_source in ("shape", "model", "prior")
        assert candidate.predicted_usd_p95 >= candidate.predicted_usd
    assert {t.name for t in answer.features.tables} == {"lake.default.lineitem", "lake.default.orders"}
    assert answer.features.joins == 1 and len(answer.fingerprint) == 16

    pinned = one.call("Route", sql=sql, settings={"engine": "datafusion"})
    assert pinned.decision.engine == "datafusion"
    other = next(c for c in pinned.decision.candidates if c.engine == "duckdb")
    assert not other.eligible and other.refusal_class == "policy" and not other.HasField("predicted_ms")
    # A header's setting holds as well.
    assert api(tpch, engine="datafusion").call("Route", sql=sql).decision.engine == "datafusion"
    local = one.call("Route", sql="SHOW TABLES")
    assert not local.HasField("decision") and local.columns
    nobody = one.call("Route", sql="SELECT * FROM system.engines", settings={"engine": "duckdb"})
    assert not nobody.decision.HasField("engine") and "not eligible" in nobody.decision.reason

    log = "SELECT count(*) AS n FROM system.queries WHERE text LIKE '%AS q FROM lineitem JOIN%' AND statement_kind = 'query' AND text NOT LIKE '%system.queries%'"
    assert tpch.query(log).to_pylist() == [{"n": 0}]


def test_mistakes_are_answered_as_flight_sql_does(tpch, api):
    one = api(tpch)
    code, message = one.refused("Route", sql="SELECT FROM WHERE")
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "line 1" in message
    code, message = one.refused("Route", sql="SELECT * FROM nowhere")
    assert code == grpc.StatusCode.NOT_FOUND and "42P01" in message
    assert one.refused("Route", sql="SELECT 1", settings={"engine": "nosuch"})[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert one.refused("Route", sql="SELECT 1 -- " + "x" * (1 << 20))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    code, message = one.refused("Route", sql="SELECT 1 -- " + "x" * (3 << 20))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and "too large" in message
    assert one.refused("GetQuery", query_id="no uuid")[0] == grpc.StatusCode.INVALID_ARGUMENT
    code, message = one.refused("ListQueries", page_size=5000)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "1000" in message
    assert one.refused("ListQueries", page_token="zzz")[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_engines_are_listed(tpch, api):
    engines = {e.name: e for e in api(tpch).call("ListEngines").engines}
    assert set(engines) == {"duckdb", "datafusion"}
    assert all(e.state == 1 and e.slots > 0 and e.cores > 0 and e.memory_bytes > 0 for e in engines.values())


def test_history_is_paged_filtered_and_kept_apart(server, tpch_dir, settings, api):
    one = server("--data", tpch_dir, settings=settings)
    for number in range(7):
        run(one, f"SELECT count(*) FROM region WHERE r_regionkey = {number}", ANA, "pages")
    with pytest.raises(Exception, match="42P01"):
        run(one, "SELECT * FROM nowhere", ANA, "failed")
    run(one, "SELECT 1", ROBOT, "pages")
    ana, robot = api(one, ANA), api(one, ROBOT)

    pages, token = [], ""
    while True:
        page = ana.call("ListQueries", page_size=3, page_token=token, tag="pages")
        pages.append(len(page.queries))
        if not (token := page.next_page_token):
            break
        last = page
    assert pages == [3, 3, 1]
    assert last.queries[0].tag == "pages"
    everything = ana.call("ListQueries", tag="pages").queries
    times = [q.started_unix_ms for q in everything]
    assert len({q.query_id for q in everything}) == 7 and times == sorted(times, reverse=True)
    assert all(q.principal == "ana" and q.predicted_ms > 0 and q.times.total_us > 0 and q.result_rows == 1 for q in everything)
    # A token leads on for its own filter and its own user only.
    token = ana.call("ListQueries", page_size=3, tag="pages").next_page_token
    assert ana.refused("ListQueries", page_token=token, tag="other")[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert robot.refused("ListQueries", page_token=token, tag="pages")[0] == grpc.StatusCode.INVALID_ARGUMENT

    shapes = {q.fingerprint for q in everything}
    assert len(shapes) == 1
    assert len(ana.call("ListQueries", fingerprint=shapes.pop()).queries) == 7
    assert [q.tag for q in ana.call("ListQueries", outcome=2).queries] == ["failed"]
    assert len(ana.call("ListQueries", engine=everything[0].engine, tag="pages").queries) >= 1
    middle = times[3]
    assert {q.started_unix_ms for q in ana.call("ListQueries", from_unix_ms=middle, until_unix_ms=middle + 1).queries} == {middle}
    short = ana.call("ListQueries", tag="pages", text_bytes_max=6).queries[0]
    assert short.text == "SELECT" and short.text_bytes > 40

    mine = robot.call("ListQueries").queries
    assert [q.text for q in mine] == ["SELECT 1"]
    assert robot.refused("ListQueries", principal="ana")[0] == grpc.StatusCode.PERMISSION_DENIED
    whole = ana.call("GetQuery", query_id=everything[0].query_id)
    assert whole.query.text.startswith("SELECT count(*)") and whole.decision.engine == whole.query.engine and whole.features.files == 1
    assert robot.refused("GetQuery", query_id=everything[0].query_id)[0] == grpc.StatusCode.NOT_FOUND


def test_credentials_are_needed_but_for_the_health_check(server, tpch_dir, settings, api):
    one = server("--data", tpch_dir, settings=settings)
    nobody, wrong, ana = api(one), api(one, "Bearer wrong"), api(one, ANA)
    ana.call("ListEngines")
    for client in [nobody, wrong]:
        client.service = ana.service
        for name in ["Route", "GetQuery", "ListQueries", "ListEngines"]:
            assert client.refused(name)[0] == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as raised:
            next(client.call("WatchDecisions"))
        assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError):
            client.database.get_services()
    assert nobody.health() == health_pb2.HealthCheckResponse.SERVING


def watch(client, **fields):
    """A running watch, and the list that what it sees goes into."""
    seen, ended = [], []
    stream = client.call("WatchDecisions", timeout=None, **fields)

    def each():
        try:
            for message in stream:
                seen.append(message)
        except grpc.RpcError as error:
            ended.append(error)

    threading.Thread(target=each, daemon=True).start()
    # The answer's headers are here: the watch has begun.
    stream.initial_metadata()
    return stream, seen, ended


def test_decisions_are_watched_as_they_are_made(server, tpch_dir, settings, api):
    one = server("--data", tpch_dir, settings=settings)
    ana = api(one, ANA)
    stream, seen, _ = watch(ana)
    tagged, only_tagged, _ = watch(ana, tag="wanted")
    run(one, "SELECT count(*) FROM region", ROBOT, "foreign")
    run(one, "SELECT count(*) FROM nation", ANA, "other")
    run(one, "SELECT count(*) FROM region", ANA, "wanted")
    wait_until(lambda: len(seen) == 2 and len(only_tagged) == 1, what="two decisions of the watcher's own")
    assert [m.tag for m in seen] == ["other", "wanted"] and only_tagged[0].tag == "wanted"
    first = seen[0]
    assert first.text == "SELECT count(*) FROM nation" and first.decision.engine and len(first.decision.candidates) == 2 and first.lost == 0
    assert ana.call("GetQuery", query_id=first.query_id).query.tag == "other"
    stream.cancel()
    tagged.cancel()

    # There may be eight for one user; ended ones make room.
    robot, running = api(one, ROBOT), []
    wait_until(lambda: refused_watch(robot) or running.append(robot.call("WatchDecisions", timeout=None)), what="a watch too many")
    code, message = refused_watch(robot)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and "watches" in message and 7 <= len(running) <= 8
    running.pop().cancel()
    wait_until(lambda: refused_watch(robot) is None, what="room for another watch")
    for stream in running:
        stream.cancel()


def refused_watch(client):
    """Why a watch isn't taken; None when it is. A watch that is taken sends nothing, and ends by its timeout."""
    try:
        next(client.call("WatchDecisions", timeout=0.5))
    except grpc.RpcError as error:
        return None if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED else (error.code(), error.details())


def test_a_draining_server_says_so_and_ends_its_watches(server, tpch_dir, api):
    one = server("--data", tpch_dir, env={"FLIGHTPATH_LIMITS_DRAIN_SECONDS": "20"})
    client = api(one)
    _, _, ended = watch(client)
    # A query that is still being read keeps the server draining.
    connection = one.connect()
    cursor = connection.cursor()
    cursor.execute("SELECT l1.l_comment, l2.l_comment FROM lineitem l1 CROSS JOIN lineitem l2")
    reader = cursor.fetch_record_batch()
    reader.read_next_batch()
    one.process.send_signal(signal.SIGTERM)
    wait_until(lambda: client.health() == health_pb2.HealthCheckResponse.NOT_SERVING, what="NOT_SERVING")
    wait_until(lambda: ended, what="the watch's end")
    assert ended[0].code() == grpc.StatusCode.UNAVAILABLE
    assert client.refused("Route", sql="SELECT 1")[0] == grpc.StatusCode.UNAVAILABLE
    with pytest.raises(Exception):
        cursor.adbc_cancel()
        while True:
            reader.read_next_batch()
    connection.close()


def watch_health(client):
    """A watch of the server's health in a thread of its own: what it was told, and how it ended."""
    told, ended = [], []

    def each():
        try:
            for answer in health_pb2_grpc.HealthStub(client.plain).Watch(health_pb2.HealthCheckRequest(service=SERVICE)):
                told.append(answer.status)
            ended.append(None)
        except grpc.RpcError as error:
            ended.append(error.code())

    threading.Thread(target=each, daemon=True).start()
    return told, ended


def test_health_is_watched_without_credentials_and_no_shutdown_waits_for_it(server, tpch_dir, settings, api):
    one = server("--data", tpch_dir, settings=settings, env={"FLIGHTPATH_LIMITS_DRAIN_SECONDS": "600"})
    client = api(one)
    told, ended = watch_health(client)
    wait_until(lambda: told, what="the first answer")
    one.process.send_signal(signal.SIGTERM)
    wait_until(lambda: ended, what="the watch's end")
    assert told == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    assert ended == [grpc.StatusCode.UNAVAILABLE]
    client.close()
    # Far less than a drain may take.
    assert one.process.wait(60) == 0


def test_queries_are_taken_for_a_while_after_health_has_said_not_serving(server, tpch_dir, api):
    one = server("--data", tpch_dir, env={"FLIGHTPATH_LIMITS_DRAIN_DELAY_SECONDS": "600"})
    client = api(one)
    told, ended = watch_health(client)
    wait_until(lambda: told, what="the first answer")
    one.process.send_signal(signal.SIGTERM)
    wait_until(lambda: client.health() == health_pb2.HealthCheckResponse.NOT_SERVING, what="NOT_SERVING")
    # Whoever hasn't noticed yet is served, over a new connection too.
    assert one.query("SELECT count(*) AS n FROM region").to_pylist() == [{"n": 5}]
    wait_until(lambda: len(told) == 2, what="the second answer")
    assert not ended
    one.process.send_signal(signal.SIGTERM)
    wait_until(lambda: ended, what="the watch's end")
    client.close()
    assert one.process.wait(60) == 0


def test_old_records_are_deleted(server, tpch_dir, tmp_path):
    state = {"FLIGHTPATH_STATE_DIR": str(tmp_path / "state-kept")}
    first = server("--data", tpch_dir, env=state)
    first.query("SELECT 1", headers={"tag": "old"})
    first.stop()
    # Some milliseconds, in days; the first round is at the start.
    second = server("--data", tpch_dir, env=state | {"FLIGHTPATH_LOG_RETENTION_DAYS": "0.0000001"})
    count = "SELECT count(*) AS n FROM system.queries WHERE tag = 'old'"
    wait_until(lambda: second.query(count).to_pylist() == [{"n": 0}], what="the old record's end")
