"""The simulation is good enough: of known faults in the code each is found by a schedule."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.mutations import MUTATIONS, Made, mutated
from tests.simulation.test_schedules import SCHEDULES
from tests.simulation.trial import first_failure

pytestmark = pytest.mark.no_cover

SHOWN_BY = {
    "append_on_after_a_failure": 183,
    "drop_what_is_over_before_it_has_arrived": 63,
    "send_nothing_again_after_a_restore": 395,
    "ask_for_the_end_before_the_last_batch": 59,
    "count_again_what_was_handed_over_twice": 117,
    "account_before_the_hand_over_has_arrived": 132,
    "take_who_is_quiet_for_idle_too_early": 641,
    "judge_without_what_the_idle_had_said": 16,
    "save_before_an_anomaly_has_arrived": 41,
    "tell_the_time_of_what_comes_again": 36,
    "ask_for_the_time_after_the_end": 186,
}
"""Of a fault that few schedules show, the seed of the first one that lately did: tried before all
others, for time is short."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_known_fault_is_found(
    mutation: Callable[[], Made], record_property: Callable[[str, object], None]
) -> None:
    first = SHOWN_BY.get(mutation.__name__, 0)
    with mutated(mutation):
        failure = first_failure([first, *range(SCHEDULES)])
    assert failure is not None
    record_property("found after schedules", failure.schedule.seed + 1)
