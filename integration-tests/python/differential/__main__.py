"""The long run: `python -m differential --statements N --seed S [--uri grpc://...]`."""

import argparse
import pathlib
import sys
import tempfile

import adbc_driver_flightsql.dbapi as flightsql

from . import data, run


def main():
    parser = argparse.ArgumentParser(prog="differential", description=__doc__)
    parser.add_argument("--statements", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--out", type=pathlib.Path, help="also write what's found here")
    parser.add_argument("--uri", help="a server that runs on the tables of --write-data; one is started otherwise")
    parser.add_argument("--write-data", type=pathlib.Path, help="only write the tables here")
    arguments = parser.parse_args()
    if arguments.write_data:
        data.write(arguments.write_data)
        return 0
    out = arguments.out.open("w", encoding="utf-8") if arguments.out else None

    def say(text):
        print(text, flush=True)
        if out:
            print(text, file=out, flush=True)

    with tempfile.TemporaryDirectory(prefix="flightpath-fuzz-") as folder:
        server, connect = None, connect_to(arguments.uri)
        if not arguments.uri:
            from conftest import Server

            data.write(pathlib.Path(folder) / "lake")
            server = Server(pathlib.Path(folder) / "state", "--data", pathlib.Path(folder) / "lake")
            connect = connect_to(server.uri)
        try:
            done = run.Run(connect, arguments.seed, arguments.threads, lambda m: say(m.text(arguments.seed))).go_for(arguments.statements)
        finally:
            if server:
                server.stop()
    say(done.summary())
    say(f"{len(done.unexplained())} unexplained mismatches of {len(done.mismatches)} reduced")
    return 1 if done.unexplained() else 0


def connect_to(uri):
    def connect(engine, headers):
        named = {"engine": engine, **headers}
        kwargs = {f"adbc.flight.sql.rpc.call_header.flightpath-{name}": value for name, value in named.items()}
        # One value may be larger than clients take by default.
        kwargs["adbc.flight.sql.client_option.with_max_msg_size"] = str(256 << 20)
        return flightsql.connect(uri, db_kwargs=kwargs, autocommit=True)

    return connect


sys.exit(main())
