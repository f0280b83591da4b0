"""A few trials of the fault matrix: all that must hold whatever the machine's speed. `make chaos` runs many, and judges by the clock too."""

import pytest
from chaos.matrix import FAULTS
from conftest import populate


@pytest.fixture(scope="module")
def small_tpch(tmp_path_factory):
    out = tmp_path_factory.mktemp("chaos") / "data"
    populate("tpch", 0.01, out)
    return out


# Clients' cursors complain when they're let go after their server has died.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.short], ids=lambda fault: fault.name)
def test_a_fault_is_survived_as_promised(tmp_path, small_tpch, fault):
    row = fault.tried(tmp_path / "fleet", small_tpch, fault.short)
    assert row.held_by_logic, row.text()
