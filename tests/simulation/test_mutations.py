"""The simulation is good enough: of known faults in the code each is found by a schedule."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.mutations import MUTATIONS, Made, mutated
from tests.simulation.test_schedules import SCHEDULES
from tests.simulation.trial import first_failure

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_known_fault_is_found(
    mutation: Callable[[], Made], record_property: Callable[[str, object], None]
) -> None:
    with mutated(mutation):
        failure = first_failure(range(SCHEDULES))
    assert failure is not None
    record_property("found after schedules", failure.schedule.seed + 1)
