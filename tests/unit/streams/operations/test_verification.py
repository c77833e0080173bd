"""Ways to the same number that agree, move, or differ."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from schemas.metrics import ADDITIVE_METRICS, EVENT_SUMS, WINDOW_METRICS
from streams.operations.core.recount import Seen, good_events, minute_counts
from streams.operations.core.verification import (
    Day,
    Event,
    Findings,
    Heard,
    Minute,
    Part,
    Total,
    Watermarks,
    days_against_minutes,
    delta_against,
    listening_against_events,
    totals_against_minutes,
)

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
MINUTE, LATENESS = timedelta(minutes=1), timedelta(minutes=15)
MOVING = Watermarks({0: NOON}, LATENESS)
OVER = Watermarks({0: NOON + timedelta(days=2)}, LATENESS)


def part(offset: int, plays: int) -> Part:
    return Part(offset, {**dict.fromkeys(WINDOW_METRICS, 0), "plays": plays})


def told(found: Findings) -> tuple[int, list[dict[str, str]]]:
    return found.compared, [dict(violation.key) for violation in found.violations]


def test_totals_are_compared_where_they_have_counted_as_far_as_the_minutes() -> None:
    minutes = {Minute("my:1", NOON, 0): part(7, 2), Minute("my:2", NOON, 0): part(9, 1)}

    def against(total: Part, marks: Watermarks) -> tuple[int, list[dict[str, str]]]:
        return told(totals_against_minutes(minutes, {Total(NOON, 0): total}, marks))

    assert against(part(9, 3), MOVING) == (1, [])
    assert against(part(7, 2), MOVING) == (0, [])  # one event behind
    wrong = [{"bucket": "2026-01-31T12:00:00+00:00", "partition": "0"}]
    assert against(part(9, 2), MOVING) == (1, wrong)
    assert against(part(7, 2), OVER) == (1, wrong)  # nothing comes any more


def test_a_minute_is_over_once_nothing_can_change_it() -> None:
    marks = Watermarks({0: NOON}, LATENESS)
    assert marks.over(NOON - LATENESS - MINUTE, 0)
    assert not marks.over(NOON - LATENESS, 0)
    assert not marks.over(NOON - timedelta(days=9), 1)  # has told nothing


def test_a_day_is_the_sum_of_its_minutes_without_distinct_listeners() -> None:
    minutes = {
        Minute("my:1", NOON, 0): part(3, 2),
        Minute("my:1", NOON + MINUTE, 0): part(8, 1),
        Minute("my:1", NOON + timedelta(days=1), 0): part(9, 5),
    }
    day = Day("my:1", date(2026, 1, 31), 0)
    assert told(days_against_minutes(minutes, {day: part(8, 3)}, MOVING)) == (1, [])
    found = days_against_minutes(minutes, {day: part(8, 4)}, MOVING)
    assert [v.sentence() for v in found.violations] == [
        "days against minutes: episode_id my:1, day 2026-01-31, partition 0: plays 4 against "
        "plays 3"
    ]
    lost = told(days_against_minutes(minutes, {}, OVER))
    assert [key["day"] for key in lost[1]] == ["2026-01-31", "2026-02-01"]


def test_delta_must_have_what_is_older_than_the_newest_it_has() -> None:
    old, new = (Minute("my:1", NOON + n * MINUTE, 0) for n in range(2))
    other = Minute("my:1", NOON, 1)
    live = {old: {"plays": 1}, new: {"plays": 2}, other: {"plays": 3}}
    newest = {0: new.bucket}
    assert told(delta_against("x", {old: {"plays": 1}}, live, newest)) == (1, [])
    assert len(told(delta_against("x", {}, live, newest))[1]) == 1
    assert len(told(delta_against("x", {new: {"plays": 1}}, live, newest))[1]) == 2
    gone = delta_against("x", {Minute("my:9", NOON, 0): {"plays": 0}}, live, {})
    assert "plays" not in gone.violations[0].sentence()


def test_listening_is_the_sum_of_the_events_up_to_what_both_have() -> None:
    key = Heard("anna", "my:1", NOON.date())
    events = [Event(key, 0, n, "play", 10) for n in range(4)]
    two = Part(1, {**dict.fromkeys(EVENT_SUMS, 0), "plays": 2, "heard_ms": 20})

    def against(counted: int, there: int, row: Part = two) -> tuple[int, int]:
        found = listening_against_events({key: (0, row)}, events, {0: counted}, {0: there})
        return found.compared, len(found.violations)

    assert against(1, 3) == (1, 0)
    assert against(2, 3) == (1, 1)  # an event that the table has passed
    assert against(1, 0) == (0, 0)  # the events are behind
    missing = listening_against_events({}, events, {0: 3}, {0: 3})
    assert [dict(v.key)["user_id"] for v in missing.violations] == ["anna"]


def seen(offset: int, at_s: float, logged_s: float | None = None, **more: Any) -> Seen:
    event = {
        "event_id": str(offset),
        "user_id": "anna",
        "episode_id": "my:1",
        "kind": "play",
        "heard_ms": 5,
        "occurred_at": NOON + timedelta(seconds=at_s),
    }
    logged = NOON + timedelta(seconds=at_s if logged_s is None else logged_s)
    return Seen(offset, logged, {**event, **more}, more.get("sender"))


def test_what_is_dead_repeated_or_somebody_else_s_does_not_count() -> None:
    records = [
        seen(0, 0),
        seen(1, 1, event_id="0"),  # a repeat
        seen(2, 2),  # refused
        seen(3, 3, user_id="ben"),  # lies in the wrong partition
        Seen(4, NOON, None),
        seen(5, 5, sender=("import/1", 7)),
        seen(6, 6, sender=("import/1", 7)),
        seen(13, 13, event_id="0"),  # so long after that it is another event
    ]
    good = good_events(records, {2}, lambda user: user == "anna", dedup_window=10)
    assert [record.offset for record in good] == [0, 5, 13]


def test_a_minute_is_counted_until_it_is_over() -> None:
    records = [
        seen(0, -5),
        seen(1, 10),
        seen(2, 90, logged_s=20, kind="skip"),  # dated in the future: it counts at its arrival
        seen(3, 61),
        seen(4, 30, kind="click"),  # out of order, not late
        seen(5, 59 + 900),
        seen(6, 59),  # exactly as late as may be
        seen(7, 58.9),  # late
        seen(8, 60 + 900),
        seen(9, 59),
    ]
    counts, whole = minute_counts(records, NOON, LATENESS)
    assert whole
    assert counts == {
        "my:1": {"impressions": 0, "clicks": 1, "plays": 2, "completes": 0, "heard_ms": 20}
    }
    assert minute_counts(records[:-2], NOON, LATENESS)[1] is False
    assert set(EVENT_SUMS) <= set(ADDITIVE_METRICS)
