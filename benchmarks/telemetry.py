"""What telemetry costs: the same small queries against servers that are alike but for it.

Four servers run at once and take each round of queries in turn: telemetry off; traces, metrics and logs to a
receiver; the same to a port where nobody listens; the same to one that takes connections and never answers.
Ratios are to the server without telemetry, round by round: 1.02x is two in a hundred slower. The processor's
time is that of router and workers together, and says more than the clock on a machine that does other work.

The receiver is a process of its own that takes OTLP over gRPC and throws it away.

    FLIGHTPATH_BINARY=target/release/flightpath python benchmarks/telemetry.py [--scale 0.1] [--rounds 15]
"""

import argparse
import concurrent.futures
import contextlib
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import adbc_driver_flightsql.dbapi as flightsql
import grpc

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "integration-tests/python"))
from conftest import BINARY, Server, cpu_seconds, populate  # noqa: E402

QUERIES_PER_ROUND = 50
QUERIES = [
    ("`SELECT 1`", lambda key: "SELECT 1"),
    ("point query", lambda key: f"SELECT o_orderkey, o_totalprice FROM orders WHERE o_orderkey = {key}"),
    ("small aggregate", lambda key: "SELECT n_regionkey, count(*) FROM nation GROUP BY n_regionkey"),
]


def receive():
    """Takes whatever is exported, and prints the bytes of each signal once its standard input is closed."""
    taken = {}

    class Everything(grpc.GenericRpcHandler):
        def service(self, call):
            signal = call.method.split(".")[3]

            def take(request, context):
                taken[signal] = taken.get(signal, 0) + len(request)
                return b""

            # Without serializers messages are bytes; no byte is an empty answer.
            return grpc.unary_unary_rpc_method_handler(take)

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[Everything()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(5).wait()
    print(" ".join(f"{signal}={size}" for signal, size in sorted(taken.items())), flush=True)


@contextlib.contextmanager
def receiver():
    """Its port, and what tells at the end how much it got."""
    process = subprocess.Popen([sys.executable, __file__, "--receive"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ended = []

    def end():
        if not ended:
            ended.append(process.communicate()[0].strip())
        return ended[0]

    try:
        yield int(process.stdout.readline()), end
    finally:
        end()


def settings(port):
    return f'[telemetry]\notlp_endpoint = "http://127.0.0.1:{port}"\notlp_logs = true\n' if port else ""


def processor(server):
    return sum(cpu_seconds(pid) for pid in [server.process.pid, *server.worker_pids()])


def measure(data, folder, rounds):
    with contextlib.ExitStack() as stack:
        port, received = stack.enter_context(receiver())
        nobody = stack.enter_context(socket.socket())
        nobody.bind(("127.0.0.1", 0))
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ports = {"off": None, "to a receiver": port, "nobody there": nobody.getsockname()[1], "no answer": silent.getsockname()[1]}
        servers = {}
        for number, (name, port) in enumerate(ports.items()):
            servers[name] = Server(folder / f"state-{number}", "--data", data, settings=settings(port))
            stack.callback(servers[name].stop)
        connections = {name: stack.enter_context(flightsql.connect(server.uri, autocommit=True)) for name, server in servers.items()}

        print(f"\n### Telemetry: small queries through ADBC, median of {rounds} rounds, and the processor's time for each\n")
        print("| | " + " | ".join(ports) + " |")
        print("|---" * (len(ports) + 1) + "|", flush=True)
        for title, make in QUERIES:
            wall, busy = {name: [] for name in ports}, {name: [] for name in ports}
            for number in range(rounds + 1):
                # Who goes first changes, so that nobody always follows the same one.
                names = list(ports)
                random.Random(number).shuffle(names)
                for name in names:
                    keys = random.Random(number)
                    with connections[name].cursor() as cursor:
                        used, begun = processor(servers[name]), time.perf_counter()
                        for _ in range(QUERIES_PER_ROUND):
                            cursor.execute(make(keys.randrange(1, 100_000)))
                            cursor.fetch_arrow_table()
                        # The first round warms up.
                        if number:
                            wall[name].append((time.perf_counter() - begun) / QUERIES_PER_ROUND)
                            busy[name].append((processor(servers[name]) - used) / QUERIES_PER_ROUND)
            cells = [title]
            for name in ports:
                text = f"{statistics.median(wall[name]) * 1000:.2f} ms"
                if name != "off":
                    text += f" ({statistics.median(a / b for a, b in zip(wall[name], wall['off'])):.2f}x)"
                # Counted in hundredths of a second: over all rounds.
                text += f", {sum(busy[name]) / rounds * 1000:.2f} ms"
                if name != "off" and sum(busy["off"]):
                    text += f" ({sum(busy[name]) / sum(busy['off']):.2f}x)"
                cells.append(text)
            print("| " + " | ".join(cells) + " |", flush=True)
        for server in servers.values():
            server.stop()
        print(f"\nThe receiver took {received()} bytes.", flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--scale", type=float, default=0.1)
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.receive:
        return receive()
    print(f"{pathlib.Path(BINARY).parent.name} build")
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "tpch"
        populate("tpch", options.scale, data)
        measure(data, pathlib.Path(folder), options.rounds)


if __name__ == "__main__":
    main()
