"""Random statements give the same answer on both engines. `make fuzz` is the long run."""

import pytest
from conftest import Server
from differential import data, run

STATEMENTS = 300
SEED = 7


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    root = tmp_path_factory.mktemp("differential")
    data.write(root / "lake")
    server = Server(root / "state", "--data", root / "lake")
    yield server
    server.stop()


@pytest.mark.parametrize("engine", run.ENGINES)
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT c_n, c_i32 / c_n * c_i64 AS x FROM mild WHERE c_n <> 0",
        "SELECT id, c_i32 % c_f64 AS x FROM extreme WHERE id = 7",
        "SELECT id, CAST(c_f32 AS DECIMAL(9, 2)) AS x, get(c_as, c_n) AS y FROM extreme WHERE id = 23",
    ],
)
def test_rows_left_out_by_a_filter_do_not_raise(lake, engine, sql):
    assert lake.query(sql, engine=engine).num_rows > 0


def test_random_statements_answer_alike(lake):
    """A short run of what `make fuzz` does at length: docs/differential.md."""
    done = run.Run(lake.connect, SEED).go_for(STATEMENTS)
    assert not done.unexplained(), "\n".join(m.text(SEED) for m in done.unexplained())
    assert done.counts["statements"] >= STATEMENTS
    # A tester that compares little proves little.
    assert done.counts["same"] > done.counts["statements"] / 10, done.summary()
    assert lake.query("SELECT 1 AS x").to_pylist() == [{"x": 1}], "the server did not live on"
