from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from streams.core.retries import decode_retry, due_after, due_entries, encode_retry, retry_record

NOW = 1_790_000_000.0
INTERVALS = (60.0, 600.0, 3600.0)
EPISODE = {"episode_id": "pi:1", "transcripts": [{"url": "http://a/b.vtt", "type": "text/vtt"}]}


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


def test_what_waits_is_read_as_it_was_written() -> None:
    record = retry_record(EPISODE | {"title": "x", "language": None}, 2, NOW + 0.5)
    assert decode_retry(encode_retry(record)) == {
        **EPISODE,
        "language": "",
        "attempt": 2,
        "due_at": datetime.fromtimestamp(NOW + 0.5, UTC),
    }


@given(st.lists(st.integers(-100, 100), max_size=30), st.integers(1, 40))
def test_those_due_come_first_and_no_others(offsets: list[int], limit: int) -> None:
    entries = [
        (str(n).encode(), encode_retry(retry_record(EPISODE, 1, NOW + s)))
        for n, s in enumerate(offsets)
    ]
    found = due_entries(entries, NOW, limit)
    dues = [decode_retry(value)["due_at"].timestamp() - NOW for _, value in found]
    assert dues == sorted(s for s in offsets if s <= 0)[:limit]
