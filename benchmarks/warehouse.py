"""A large result through the Databricks adapter, from a simulated warehouse (`flightpath emulate
databricks`): its throughput beside plainly downloading the same chunks, and the most memory that the
server ever took meanwhile.

    FLIGHTPATH_BINARY=target/release/flightpath python benchmarks/warehouse.py [--gb 3] [--rounds 1]
"""

import argparse
import concurrent.futures
import json
import pathlib
import re
import statistics
import sys
import tempfile
import time
import urllib.request

import pyarrow.flight as flight

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "integration-tests/python"))
from conftest import Server, populate  # noqa: E402
from flight_sql import statement  # noqa: E402
from simulation import Simulation, settings  # noqa: E402

TOKEN = "token-of-the-benchmark-01"
# As many as the adapter fetches at once.
DOWNLOADS = 4


def through_the_adapter(server, sql):
    """Rows, bytes of Arrow, and the seconds from the first batch to the last."""
    client = flight.connect(server.uri.replace("grpc://", "grpc+tcp://"))
    headers = [(b"authorization", f"Bearer {TOKEN}".encode()), (b"flightpath-engine", b"databricks")]
    options = flight.FlightCallOptions(headers=headers)
    info = client.get_flight_info(statement(sql), options)
    reader = client.do_get(info.endpoints[0].ticket, options)
    rows, size, begun = 0, 0, None
    for batch in reader:
        begun = begun or time.perf_counter()
        rows += batch.data.num_rows
        size += batch.data.nbytes
    return rows, size, time.perf_counter() - begun


def plainly(simulation, sql):
    """The same statement by REST, its chunks downloaded as they are and thrown away: rows, bytes on
    the wire, and the seconds that the downloads took."""

    def call(method, path, body=None):
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(simulation.url + path, data, headers, method=method), timeout=600) as answer:
            return json.loads(answer.read())

    asked = {
        "statement": sql, "warehouse_id": "simulated", "format": "ARROW_STREAM", "disposition": "EXTERNAL_LINKS",
        "result_compression": "LZ4_FRAME", "wait_timeout": "0s",
    }
    answer = call("POST", "/api/2.0/sql/statements", asked)
    path = f"/api/2.0/sql/statements/{answer['statement_id']}"
    while answer["status"]["state"] in ("PENDING", "RUNNING"):
        time.sleep(0.05)
        answer = call("GET", path)
    assert answer["status"]["state"] == "SUCCEEDED", answer["status"]

    def download(index):
        link = call("GET", f"{path}/result/chunks/{index}")["external_links"][0]
        size = 0
        with urllib.request.urlopen(urllib.request.Request(link["external_link"], headers=link.get("http_headers") or {}), timeout=600) as body:
            while part := body.read(1 << 20):
                size += len(part)
        return size

    begun = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(DOWNLOADS) as pool:
        size = sum(pool.map(download, range(answer["manifest"]["total_chunk_count"])))
    return answer["manifest"]["total_row_count"], size, time.perf_counter() - begun


def memory_peak(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def measure(gb, rounds):
    """Prints a Markdown table."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        populate("tpch", 0.5, folder / "data")
        simulation = Simulation(folder / "simulation", folder / "data", {"bench": TOKEN}, settings={"history_calls_per_second": 0})
        server = Server(folder / "state", settings=settings(simulation, {"bench": TOKEN}, folder / "data"))
        try:
            # Half a gigabyte of lineitem, as often as it takes.
            one = "SELECT * FROM main.default.lineitem"
            _, size, _ = through_the_adapter(server, one)
            times = max(1, -(-int(gb * 1e9) // size))
            sql = f"SELECT l.* FROM (SELECT explode(sequence(1, {times})) AS n) CROSS JOIN main.default.lineitem l"
            idle = memory_peak(server.process)
            ours, plain = [], []
            for _ in range(rounds):
                rows, size, seconds = through_the_adapter(server, sql)
                plain_rows, wire, plain_seconds = plainly(simulation, sql)
                assert rows == plain_rows, (rows, plain_rows)
                ours.append(seconds)
                plain.append(plain_seconds)
            seconds, plain_seconds = statistics.median(ours), statistics.median(plain)
            print(f"#### A result of {size / 1e9:.1f} GB ({rows:,} rows) from a simulated warehouse, median of {rounds}\n")
            print("| | seconds | GB/s of Arrow | MB/s on the wire |\n|---|---|---|---|")
            for name, took in (("flightpath (databricks)", seconds), ("the same chunks, downloaded and thrown away", plain_seconds)):
                print(f"| {name} | {took:.1f} | {size / took / 1e9:.2f} | {wire / took / 1e6:.0f} |")
            print(f"\nMost memory that the server took: {memory_peak(server.process) / 1e6:.0f} MB ({idle / 1e6:.0f} MB before).\n")
        finally:
            server.stop()
            simulation.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--gb", type=float, default=3.0, help="gigabytes of Arrow in the result")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    measure(arguments.gb, arguments.rounds)
