"""How long a stage waits that fails again and again, and what is told of it."""

from __future__ import annotations

from itertools import pairwise

from jobs.core.backoff import LONGEST_ERROR, LONGEST_S, told, wait_s


def test_each_failure_is_waited_for_longer_up_to_an_hour() -> None:
    waits = [wait_s(attempts) for attempts in range(1, 2000)]
    assert wait_s(0) == 0
    assert all(0 < before <= after for before, after in pairwise(waits))
    assert waits[1] == 2 * waits[0]
    assert waits[-1] == LONGEST_S


def test_an_error_is_told_in_one_short_line() -> None:
    assert told(ValueError("\n first \n second")) == "ValueError: first"
    assert told(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert len(told(ValueError("x" * 10_000))) == LONGEST_ERROR
