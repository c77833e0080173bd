from __future__ import annotations

from streams.http.retries import due_after

NOW = 1_790_000_000.0
INTERVALS = (60.0, 600.0, 3600.0)


def test_waits_grow_and_end() -> None:
    for attempt, interval in enumerate(INTERVALS, 1):
        due = due_after(attempt, NOW, "pi:1", INTERVALS)
        assert due is not None
        assert 0.8 * interval <= due - NOW <= 1.2 * interval
    assert due_after(4, NOW, "pi:1", INTERVALS) is None
    assert due_after(1, NOW, "pi:1", ()) is None


def test_a_host_is_not_asked_before_the_time_it_named() -> None:
    later = due_after(1, NOW + 5000, "pi:1", INTERVALS)
    assert due_after(1, NOW, "pi:1", INTERVALS, until=NOW + 5000) == later
    past = due_after(1, NOW, "pi:1", INTERVALS, until=NOW - 1)
    assert past == due_after(1, NOW, "pi:1", INTERVALS)


def test_what_failed_together_does_not_come_back_together() -> None:
    dues = {due_after(1, NOW, f"pi:{n}", INTERVALS) for n in range(100)}
    assert len(dues) > 90
