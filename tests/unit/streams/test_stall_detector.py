"""A stage stands still when it is idle, something waits to be read, and nothing moves."""

from __future__ import annotations

from streams.watchdog import StallDetector


def test_standing_still_is_told_after_the_time_given() -> None:
    detector = StallDetector(30)
    assert not detector.stalled(100, True, "here")
    assert not detector.stalled(129, True, "here")
    assert detector.stalled(130, True, "here")


def test_progress_starts_the_time_anew() -> None:
    detector = StallDetector(30)
    detector.stalled(0, True, "here")
    assert not detector.stalled(40, True, "there")
    assert not detector.stalled(69, True, "there")
    assert detector.stalled(70, True, "there")


def test_a_stage_that_is_busy_or_has_read_everything_does_not_stand_still() -> None:
    detector = StallDetector(30)
    detector.stalled(0, True, "here")
    assert not detector.stalled(40, False, "here")
    assert not detector.stalled(69, True, "here")
    assert detector.stalled(70, True, "here")
