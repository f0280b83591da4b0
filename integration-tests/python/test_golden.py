"""Delta tables that Spark wrote read as Spark reads them, or are refused with a reason; none ends
a worker for the others."""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

GOLDEN = pathlib.Path(__file__).parent.parent / "data/delta-golden"
NAMES = sorted(p.name for p in GOLDEN.iterdir() if (p / "delta").is_dir())

# Engines may refuse these, with a reason; the reason is part of the test.
ZONE = "were written without a time zone"
REFUSED = {
    (name, engine): ZONE
    for name in ["data-reader-partition-values", "kernel-timestamp-int96", "kernel-timestamp-pst", "kernel-timestamp-timestamp_micros"]
    for engine in ["duckdb", "datafusion"]
} | {
    (name, "duckdb"): "its columns are mapped by id"
    for name in ["data-reader-timestamp_ntz-id-mode", "table-with-columnmapping-mode-id"]
}


def comparable(table):
    columns = [table.column(name).to_pylist() for name in sorted(table.column_names)]
    return sorted((tuple(f"{v:.12g}" if isinstance(v, float) else repr(v) for v in row) for row in zip(*columns)), key=repr)


def expected(name):
    files = sorted((GOLDEN / name / "expected").glob("**/*.parquet"))
    return pa.concat_tables([pq.read_table(f) for f in files], promote_options="permissive")


@pytest.mark.parametrize("engine", ["duckdb", "datafusion"])
@pytest.mark.parametrize("name", NAMES)
def test_golden_table(golden, name, engine):
    sql = f"SELECT * FROM `{name.replace('-', '_').lower()}`"
    try:
        got = golden.query(sql, engine=engine)
    except Exception as error:
        assert "not eligible" in str(error), error
        reason = REFUSED.get((name, engine))
        assert reason is not None and reason in str(error), f"refused: {error}"
        return
    assert (name, engine) not in REFUSED, "reads now: take it out of the list"
    want = expected(name)
    assert sorted(got.column_names) == sorted(want.column_names)
    assert comparable(got) == comparable(want)


def test_the_tables_are_there():
    assert len(NAMES) >= 30
