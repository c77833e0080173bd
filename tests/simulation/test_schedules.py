"""A thousand schedules of faults, each with every table as the oracle says."""

from __future__ import annotations

import pytest

from tests.simulation.trial import first_failure, report

SCHEDULES = 1_000
AT_ONCE = 25

pytestmark = pytest.mark.no_cover
"""Measuring branches doubles the time, and chance is no test of a branch."""


@pytest.mark.parametrize("first", range(0, SCHEDULES, AT_ONCE))
def test_every_table_is_right_whatever_goes_wrong(first: int) -> None:
    failure = first_failure(range(first, first + AT_ONCE))
    if failure is not None:
        pytest.fail(report(failure), pytrace=False)
