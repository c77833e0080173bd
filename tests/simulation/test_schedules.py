"""A thousand schedules of faults, each with every table as the oracle says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT
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


def test_a_seed_is_the_same_schedule_in_every_process() -> None:
    """Python hashes names by another seed in each process, and orders its sets by that."""
    stories = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "8"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(stories) == 1
