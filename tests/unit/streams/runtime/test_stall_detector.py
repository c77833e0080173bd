"""A stage stands still when it is idle, something waits to be read, and nothing moves."""

from __future__ import annotations

from streams.runtime.watchdog import StallDetector


def test_the_time_counts_since_something_was_first_seen_waiting() -> None:
    detector = StallDetector()
    assert detector.stalled_s(100, True, "here") == 0
    assert detector.stalled_s(130, True, "here") == 30


def test_progress_starts_the_time_anew() -> None:
    detector = StallDetector()
    detector.stalled_s(0, True, "here")
    assert detector.stalled_s(40, True, "there") == 0
    assert detector.stalled_s(69, True, "there") == 29


def test_a_stage_that_is_busy_or_has_read_everything_does_not_stand_still() -> None:
    detector = StallDetector()
    detector.stalled_s(0, True, "here")
    assert detector.stalled_s(40, False, "here") == 0
    assert detector.stalled_s(69, True, "here") == 29
