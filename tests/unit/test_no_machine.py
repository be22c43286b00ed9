"""What the other tests in this folder must not do is refused to them."""

import pytest

from tests.machines import mlp, simulate
from tests.unit.conftest import ELSEWHERE


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_a_test_of_a_unit_cannot_run_a_machine(engine):
    with pytest.raises(pytest.fail.Exception, match=ELSEWHERE):
        simulate(mlp(0), engine=engine)
