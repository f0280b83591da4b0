"""The fault matrix: `python -m chaos [--factor F] [--only TEXT]... [--trials NAME=N]...`.

Each fault is tried as often as the project promises to survive it, times the factor, at least thrice.
Ends with 0 when everything held.
"""

import argparse
import pathlib
import sys
import tempfile
import time

from conftest import populate
from fleet import Fleet

from . import routers, tables, warehouse, workers
from .report import HEADER, Row

# Name, how often it is promised to be survived, what tries it; all but the last few need three workers.
FAULTS = [
    ("kill-first-byte", 3000, workers.killed_before_the_first_byte),
    ("kill-within-buffer", 1000, workers.killed_within_the_buffer),
    ("kill-beyond-buffer", 1000, workers.killed_beyond_the_buffer),
    ("stop", 300, workers.stopped),
    ("spot-notice", 400, workers.spot_notice),
    ("router-rolling", 100, routers.rolling),
    ("router-kill", 300, routers.router_killed),
    ("cancel", 2000, workers.cancelled),
    ("client-vanishes", 500, routers.client_vanishes),
    ("out-of-memory", 200, workers.out_of_memory),
    ("delta-commit", 500, tables.commits),
    ("vacuum", 500, tables.vacuum),
    ("databricks-busy", 300, warehouse.busy),
    # Questions per client.
    ("overload", 300, routers.overload),
    # Seconds.
    ("log-down", 6000, routers.log_down),
]


def main():
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--factor", type=float, default=0.01, help="of the promised trials; 1 takes hours")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only faults whose names begin so")
    parser.add_argument("--trials", action="append", default=[], metavar="NAME=N", help="this one so often (log-down: seconds)")
    parser.add_argument("--scale", type=float, default=0.01, help="TPC-H scale of the tables")
    parser.add_argument("--out", type=pathlib.Path, help="also write the table here")
    arguments = parser.parse_args()
    exact = {name: int(count) for name, _, count in (given.partition("=") for given in arguments.trials)}
    chosen = [f for f in FAULTS if not arguments.only or any(f[0].startswith(only) for only in arguments.only)]
    if not chosen or set(exact) - {f[0] for f in FAULTS}:
        parser.error(f"the faults are {', '.join(f[0] for f in FAULTS)}")
    out = arguments.out.open("w", encoding="utf-8") if arguments.out else None

    def say(text):
        print(text, flush=True)
        if out:
            print(text, file=out, flush=True)

    rows = []
    with tempfile.TemporaryDirectory(prefix="flightpath-chaos-") as folder:
        data = pathlib.Path(folder) / "data"
        populate("tpch", arguments.scale, data)
        say(HEADER)
        for name, promised, fault in chosen:
            trials = exact.get(name) or max(3, round(promised * arguments.factor))
            rows.append(one(pathlib.Path(folder) / name, data, name, fault, trials))
            say(rows[-1].text())
    failed = sum(not row.held for row in rows)
    say(f"{len(rows) - failed} of {len(rows)} faults survived as promised")
    return 1 if failed else 0


def one(folder, data, name, fault, trials):
    began = time.monotonic()
    fleet = Fleet(folder, data, workers=3, routers=2 if fault is routers.rolling else 1)
    try:
        row = fault(fleet, trials)
    except Exception as error:
        # One fault's end mustn't hide the others.
        row = Row(name)
        row.promise(False, f"{type(error).__name__}: {error}")
        row.note(fleet.router.stderr()[-300:])
    finally:
        fleet.end()
    row.promise(True, f"{time.monotonic() - began:.0f} s")
    return row


def quieter(unraisable):
    """The driver's cursors complain when they're let go after their server has died."""
    if "Underflow in closing" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


sys.unraisablehook = quieter
sys.exit(main())
