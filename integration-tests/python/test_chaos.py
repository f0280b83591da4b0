"""A few trials of the fault matrix; `make chaos` runs many of all of it."""

import pytest
from chaos import routers, tables, warehouse, workers
from conftest import populate
from fleet import Fleet


@pytest.fixture(scope="module")
def small_tpch(tmp_path_factory):
    out = tmp_path_factory.mktemp("chaos") / "data"
    populate("tpch", 0.01, out)
    return out


# Clients' cursors complain when they're let go after their server has died.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "fault, trials",
    [
        (workers.killed_before_the_first_byte, 3),
        (workers.killed_within_the_buffer, 2),
        (workers.killed_beyond_the_buffer, 2),
        (workers.spot_notice, 2),
        (workers.cancelled, 3),
        (workers.out_of_memory, 1),
        (routers.rolling, 2),
        (routers.router_killed, 2),
        (routers.client_vanishes, 2),
        (routers.overload, 1),
        (tables.commits, 60),
        (tables.vacuum, 60),
        (warehouse.busy, 7),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_fault_is_survived_as_promised(tmp_path, small_tpch, fault, trials):
    fleet = Fleet(tmp_path / "fleet", small_tpch, workers=3, routers=2 if fault is routers.rolling else 1)
    try:
        row = fault(fleet, trials)
    finally:
        fleet.end()
    # How fast is measured by `make chaos`; a loaded machine mustn't fail the tests.
    assert not row.wrong, row.text()
    assert row.errors_allowed or not row.errors, row.text()
