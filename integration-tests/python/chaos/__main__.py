"""The fault matrix: `python -m chaos [--factor F] [--only TEXT]... [--trials NAME=N]...`.

Each fault is tried as often as the project promises to survive it, times the factor, at least thrice.
Ends with 0 when everything held. `late` is what held but for promises of the clock, which want a quiet machine.
"""

import argparse
import datetime
import os
import pathlib
import sys
import tempfile
import time

from conftest import populate

from .matrix import FAULTS
from .report import HEADER, Row

def main():
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--factor", type=float, default=0.01, help="of the promised trials; 1 takes hours")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only faults whose names begin so")
    parser.add_argument("--trials", action="append", default=[], metavar="NAME=N", help="this one so often (log-down: seconds)")
    parser.add_argument("--scale", type=float, default=0.01, help="TPC-H scale of the tables")
    parser.add_argument("--out", type=pathlib.Path, help="also write the table here")
    arguments = parser.parse_args()
    exact = {name: int(count) for name, _, count in (given.partition("=") for given in arguments.trials)}
    chosen = [f for f in FAULTS if not arguments.only or any(f.name.startswith(only) for only in arguments.only)]
    if not chosen or set(exact) - {f.name for f in FAULTS}:
        parser.error(f"the faults are {', '.join(f.name for f in FAULTS)}")
    out = arguments.out.open("w", encoding="utf-8") if arguments.out else None

    def say(text):
        print(text, flush=True)
        if out:
            print(text, file=out, flush=True)

    rows = []
    with tempfile.TemporaryDirectory(prefix="flightpath-chaos-") as folder:
        data = pathlib.Path(folder) / "data"
        populate("tpch", arguments.scale, data)
        say(f"{datetime.date.today()}, {os.cpu_count()} cores, factor {arguments.factor:g}")
        say(HEADER)
        for fault in chosen:
            rows.append(one(pathlib.Path(folder) / fault.name, data, fault, exact.get(fault.name) or fault.trials(arguments.factor)))
            say(rows[-1].text())
    held, logic = sum(row.held for row in rows), sum(row.held_by_logic for row in rows)
    say(f"{held} of {len(rows)} faults survived as promised, {logic - held} more but for the clock")
    return 0 if held == len(rows) else 1


def one(folder, data, fault, trials):
    began = time.monotonic()
    try:
        row = fault.tried(folder, data, trials)
    except Exception as error:
        # One fault's end mustn't hide the others.
        row = Row(fault.name, wanted=trials)
        row.promise(False, f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", []):
            row.note(note)
    row.promise(True, f"{time.monotonic() - began:.0f} s")
    return row


def quieter(unraisable):
    """The driver's cursors complain when they're let go after their server has died."""
    if "Underflow in closing" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


sys.unraisablehook = quieter
sys.exit(main())
