"""Faults of tables: commits and clean-ups while they're read."""

import contextlib
import json
import os
import random
import threading
import time
import uuid

import adbc_driver_manager
import pyarrow as pa
import pyarrow.parquet as parquet
from conftest import Server

from .report import Row

FILES, ROWS = 4, 2000
VERSIONS_MIN = 3
# Every row holds the number of the version that wrote it.
QUESTIONS = [
    "SELECT min(v) AS low, max(v) AS high, count(*) AS n FROM marked",
    "SELECT min(low) AS low, max(high) AS high, max(n) AS n FROM (SELECT min(v) AS low, max(v) AS high, count(*) AS n FROM marked"
    " UNION ALL SELECT min(v), max(v), count(*) FROM marked)",
    "SELECT min(a.v) AS low, max(b.v) AS high, count(*) AS n FROM marked a JOIN marked b ON a.k = b.k",
]
# What a client may hear when files of the version that it reads have gone.
TYPED = ("no longer there", "not found", "no such file", "removed", "vanished", "doesn't exist", "can't be read", "cannot open", "try again", "missing")


class Marked:
    """A Delta table whose every version replaces all of the one before. Written by hand: one commit is one file."""

    def __init__(self, root, keeps):
        self.folder, self.keeps, self.version, self.files = root / "marked", keeps, -1, []
        (self.folder / "_delta_log").mkdir(parents=True)
        schema = {"type": "struct", "fields": [
            {"name": name, "type": "long", "nullable": True, "metadata": {}} for name in ("k", "v")
        ]}
        self.commit([
            {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
            {"metaData": {"id": str(uuid.uuid4()), "format": {"provider": "parquet", "options": {}}, "schemaString": json.dumps(schema),
                          "partitionColumns": [], "configuration": {}, "createdTime": 0}},
        ])

    def commit(self, first=()):
        """The next version; with `keeps` false, the files of the one before are deleted behind it."""
        version, old, self.files = self.version + 1, self.files, []
        now = int(time.time() * 1000)
        actions = [*first, *({"remove": {"path": name, "deletionTimestamp": now, "dataChange": True}} for name in old)]
        for part in range(FILES):
            name = f"part-{version:08}-{part}-{uuid.uuid4()}.parquet"
            keys = pa.array(range(part * ROWS, (part + 1) * ROWS), pa.int64())
            parquet.write_table(pa.table({"k": keys, "v": pa.array([version] * ROWS, pa.int64())}), self.folder / name, row_group_size=200)
            size = (self.folder / name).stat().st_size
            stats = json.dumps({"numRecords": ROWS, "minValues": {"v": version}, "maxValues": {"v": version}, "nullCount": {"v": 0}})
            actions.append({"add": {"path": name, "partitionValues": {}, "size": size, "modificationTime": now, "dataChange": True, "stats": stats}})
            self.files.append(name)
        beside = self.folder / "_delta_log" / f".{version}.tmp"
        beside.write_text("".join(json.dumps(action) + "\n" for action in actions))
        os.rename(beside, self.folder / "_delta_log" / f"{version:020}.json")
        self.version = version
        if not self.keeps:
            for name in old:
                (self.folder / name).unlink()


def commits(fleet, trials):
    return _under_writes(fleet, trials, Row("Delta commits during queries"), keeps=True)


def vacuum(fleet, trials):
    return _under_writes(fleet, trials, Row("VACUUM of files during queries", errors_allowed=True), keeps=False)


def _under_writes(fleet, trials, row, keeps):
    """`trials` questions to both engines while one version after the other is committed."""
    root = fleet.folder / row.fault.split()[0].lower()
    table = Marked(root, keeps)
    server = Server(fleet.folder / f"state-{root.name}", "--data", root, env={"FLIGHTPATH_CATALOG_REFRESH_SECONDS": "0.05"})
    stop, lock, seen, untyped = threading.Event(), threading.Lock(), set(), []

    def write():
        while not stop.is_set():
            table.commit()
            stop.wait(random.uniform(0, 0.03))
            # Where files go, the next ones go when somebody has read what came after them.
            until = time.monotonic() + 20
            while not (keeps or stop.is_set() or table.version in seen or time.monotonic() > until):
                stop.wait(0.01)

    def ask(number):
        while not stop.is_set():
            sql, engine = random.choice(QUESTIONS), ("duckdb", "datafusion")[number % 2]
            try:
                [got], failure = server.query(sql, engine=engine).to_pylist(), None
            except adbc_driver_manager.Error as error:
                got, failure = None, error
            with lock:
                row.queries += 1
                if failure is not None:
                    row.client_error(failure)
                    said = str(failure).lower()
                    if not any(text in said for text in TYPED):
                        untyped.append(said)
                elif got["low"] != got["high"] or got["n"] != FILES * ROWS:
                    row.wrong_answer(f"{engine}: {got} of {sql}")
                else:
                    seen.add(got["low"])
                if row.queries >= trials and table.version >= VERSIONS_MIN:
                    stop.set()

    threads = [threading.Thread(target=ask, args=(n,), daemon=True) for n in range(4)] + [threading.Thread(target=write, daemon=True)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(600)
        row.promise(not any(thread.is_alive() for thread in threads), "every question was answered or failed")
        row.promise(not untyped, f"{row.errors} errors, all that files have gone" if row.errors_allowed else f"{row.errors} errors")
        for said in untyped[:2]:
            row.note(said)
        # A version that is written over as it's read is a fault; how many came depends on how long the questions took.
        row.wanted, row.injected = VERSIONS_MIN, table.version
        row.promise(len(seen) > 1, f"answers of {len(seen)} of {table.version + 1} versions, each whole")
        # Once nobody writes any more, everybody reads the last version.
        row.promise(_reads_last(server, table), f"afterwards both engines read the last version, {table.version}")
    finally:
        stop.set()
        server.stop()
    return row


def _reads_last(server, table):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(adbc_driver_manager.Error):
            if all(server.query(QUESTIONS[0], engine=e).to_pylist()[0]["low"] == table.version for e in ("duckdb", "datafusion")):
                return True
        time.sleep(0.05)
    return False
