"""Random statements give the same answer on both engines. `make fuzz` is the long run."""

import collections

import pytest
from conftest import Server
from differential import data, run

STATEMENTS = 1_500
SEED = 7


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    root = tmp_path_factory.mktemp("differential")
    data.write(root / "lake")
    server = Server(root / "state", "--data", root / "lake")
    yield server
    server.stop()


def test_random_statements_give_the_same_answer_on_both_engines(lake):
    done = run.Run(lake.connect, SEED).go_for(STATEMENTS)
    assert not done.unexplained(), "\n\n".join(m.text(SEED) for m in done.unexplained())
    counts = collections.Counter(done.counts)
    assert counts["statements"] >= STATEMENTS
    # A tester that compares little proves little.
    assert counts["same"] > counts["statements"] / 4, done.summary()
    assert lake.query("SELECT 1 AS x").to_pylist() == [{"x": 1}], "the server did not live on"
