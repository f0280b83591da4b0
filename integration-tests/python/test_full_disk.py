"""A full disk: below temporary files, below the log. Queries are answered or refused by type, nothing else is hurt."""

import contextlib
import os
import subprocess

import pytest

from conftest import wait_until

MOUNT_BYTES = 24 << 20
# Sorts more than the worker's memory holds.
SPILLS = "SELECT * FROM lineitem ORDER BY l_comment, l_orderkey"
SMALL_DUCKDB = {"FLIGHTPATH_ENGINES_DUCKDB_MEMORY": "192MiB", "FLIGHTPATH_ENGINES_DUCKDB_THREADS": "1"}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with little room."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system of its own")
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MOUNT_BYTES}", "tmpfs", str(folder)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a file system can't be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder):
    """Takes all room there is."""
    path = folder / "filler"
    with open(path, "ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"\0" * (256 << 10))
    # What one write didn't get in whole, smaller ones may.
    with open(path, "ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"\0" * 512)
    return path


@pytest.mark.parametrize("filled", [False, True], ids=["too-small", "filled-later"])
def test_spilling_onto_a_full_disk_is_a_typed_error_and_another_engine_answers(server, tpch_dir, small_disk, tmp_path, filled):
    environment = {**SMALL_DUCKDB, "FLIGHTPATH_LOG_URL": str(tmp_path / "log.sqlite"), "FLIGHTPATH_STATE_DIR": str(small_disk)}
    one = server("--data", tpch_dir, env=environment)
    filler = fill(small_disk) if filled else None
    with pytest.raises(Exception, match="(?s)memory or disk than its worker has.*engines.duckdb.temp.*ResourceExhausted"):
        one.query(SPILLS, engine="duckdb")
    # DataFusion's memory is enough for it.
    assert one.query(SPILLS).num_rows == 600_572
    assert one.query("SELECT count(*) AS n FROM lineitem", engine="duckdb").to_pylist() == [{"n": 600_572}]
    if filler:
        filler.unlink()
        # Room again: the log goes on, and what was spilled is gone.
        one.query("SELECT 'room again' AS x")
        sql = "SELECT count(*) AS n FROM system.queries WHERE text LIKE '%room again%'"
        wait_until(lambda: one.query(sql).to_pylist()[0]["n"] > 0, what="the log")


def test_a_full_disk_below_the_spool_drops_records_counts_them_and_hurts_no_query(server, tpch_dir, small_disk, tmp_path):
    one = server("--data", tpch_dir, env={"FLIGHTPATH_LOG_URL": str(tmp_path / "log.sqlite"), "FLIGHTPATH_STATE_DIR": str(small_disk)})
    recorded = "SELECT count(*) AS n FROM system.queries WHERE text LIKE '%number%'"
    one.query("SELECT 'number 0' AS x")
    wait_until(lambda: one.query(recorded).to_pylist()[0]["n"] > 0, what="the first record")
    filler = fill(small_disk)
    for number in range(1, 21):
        assert one.query(f"SELECT 'number {number}' AS x").to_pylist() == [{"x": f"number {number}"}]
    assert "the query log's spool can't be written; records are dropped dropped=1 " in one.stderr()
    filler.unlink()
    one.query("SELECT 'number 21' AS x")
    texts = "SELECT text FROM system.queries WHERE text LIKE 'SELECT ''number%'"
    wait_until(lambda: any("number 21" in row["text"] for row in one.query(texts).to_pylist()), what="the log's recovery")
    # Each record is whole or not there.
    assert all(row["text"].endswith("' AS x") for row in one.query(texts).to_pylist())


def test_a_full_disk_below_the_database_keeps_records_in_the_spool(server, tpch_dir, small_disk):
    one = server("--data", tpch_dir, env={"FLIGHTPATH_LOG_URL": str(small_disk / "log.sqlite")})
    recorded = "SELECT count(DISTINCT text) AS n FROM system.queries WHERE text LIKE 'SELECT ''number%'"
    one.query("SELECT 'number 0' AS x")
    wait_until(lambda: one.query(recorded).to_pylist() == [{"n": 1}], what="the first record")
    filler = fill(small_disk)
    for number in range(1, 61):
        # Long enough for the database to need more room.
        assert one.query(f"SELECT 'number {number}' AS x, '{'-' * 2_000}' AS y").num_rows == 1
    wait_until(lambda: "the query log can't be written; its records stay in the spool" in one.stderr(), what="the database's failure")
    filler.unlink()
    wait_until(lambda: one.query(recorded).to_pylist() == [{"n": 61}], what="every record in the database")
