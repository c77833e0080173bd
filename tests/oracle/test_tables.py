"""The oracle itself, by examples that were counted by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.oracle import tables
from tests.oracle.listeners import BOT
from tests.oracle.log import Entry, Row, sort_out
from tests.oracle.tables import Verdict

START = datetime(2026, 1, 1, 23, 0, tzinfo=UTC)
LATENESS = timedelta(minutes=15)


def entry(offset: int, minutes: float, user: str = "anna", **event: Any) -> Entry:
    """An event ``minutes`` after START that arrives at once."""
    at = START + timedelta(minutes=minutes)
    logged_at = at + timedelta(minutes=event.pop("delay", 0))
    known = {"event_id": f"e{offset}", "user_id": user, "episode_id": "a", "kind": "progress"}
    return Entry(offset, logged_at, {**known, "occurred_at": at, **event})


def good(*entries: Entry) -> list[Row]:
    return sort_out(entries, 100).good


def judged(*entries: Entry) -> list[Verdict]:
    return tables.judge(good(*entries), LATENESS)


def test_repeats_are_those_within_the_window_of_offsets() -> None:
    log = [entry(o, 0, event_id=name) for o, name in enumerate("abaabba")]
    sorted_out = sort_out([*log, Entry(7, START, None), entry(11, 0, event_id="a")], 3)
    assert [row.offset for row in sorted_out.good] == [0, 1, 11]
    assert sorted_out.dead == [7]
    assert sorted_out.repeats == [2, 3, 4, 5, 6]
    # The invalid do not make others repeats.
    assert len(good(entry(0, 0, event_id="a", heard_ms=-1), entry(1, 0, event_id="a"))) == 1


def test_strays_are_moved_and_a_number_of_a_sender_counts_once() -> None:
    def sent(offset: int, number: int, user: str = "anna") -> Entry:
        return replace(entry(offset, 0, user), origin=("elsewhere", number))

    log = [entry(0, 0, "bert"), sent(1, 4), sent(2, 6), sent(3, 4), sent(4, 7), sent(5, 7, "bert")]
    sorted_out = sort_out(log, 0, lambda user: user == "anna")
    assert [row.offset for row in sorted_out.good] == [1, 2, 4]
    assert sorted_out.moved == [0]
    assert sorted_out.repeats == [3, 5]
    assert sorted_out.written() == len(log)


def test_a_fast_clock_counts_at_arrival_and_a_slow_one_comes_late() -> None:
    verdicts = judged(
        entry(0, 600, delay=-600),
        entry(1, 20),
        entry(2, 5),
        entry(3, 4.999),
        entry(4, 4),
    )
    assert [verdict.late for verdict in verdicts] == [False, False, False, True, True]
    assert verdicts[0].at == START
    assert tables.watermark_of(verdicts) == START + timedelta(minutes=20)
    assert tables.late_offsets(verdicts) == {3, 4}


def test_a_session_makes_one_stream_and_one_engaged_listener() -> None:
    verdicts = judged(
        entry(0, 0, kind="play"),
        entry(1, 1, heard_ms=59_999),
        entry(2, 2, heard_ms=1),
        entry(3, 3, heard_ms=60_000, duration_ms=300_000),
        entry(4, 4, heard_ms=1_080_000),
        entry(5, 34, heard_ms=60_000),
        entry(6, 64.01, heard_ms=1_200_000),
        entry(7, 64.01 + 1440, heard_ms=10),
        entry(8, 64.01 + 2880.01, heard_ms=10),
    )
    assert [v.row.offset for v in verdicts if v.stream] == [2, 6]
    assert [v.row.offset for v in verdicts if v.engaged] == [3, 6]
    assert [v.row.offset for v in verdicts if v.new_listener] == [0, 8]


def test_bots_are_shown_things_but_do_not_listen() -> None:
    verdicts = judged(
        entry(0, 0, kind="play", user_agent=BOT),
        entry(1, 0.5, "bert", kind="impression"),
        entry(2, 0.7, "carl", heard_ms=5),
    )
    (window,) = tables.windows(verdicts).values()
    assert window == {
        "impressions": 1,
        "clicks": 0,
        "plays": 1,
        "completes": 0,
        "heard_ms": 5,
        "offset": 2,
        "listeners": 1,
        "new_listeners": 1,
        "streams": 0,
        "engaged": 0,
    }


def test_a_minute_is_closed_and_a_day_final_by_the_watermark() -> None:
    verdicts = judged(entry(0, 0, kind="play"), entry(1, 15.999), entry(2, 16, "bert"))
    assert tables.history(verdicts[:2], LATENESS) == {}
    assert list(tables.history(verdicts, LATENESS)) == [("a", START)]
    verdicts = judged(entry(0, 0, kind="play"), entry(1, 74.999), entry(2, 75, "bert"))
    day = ("a", date(2026, 1, 1))
    assert not tables.days(verdicts[:2], LATENESS)[day]["final"]
    assert tables.days(verdicts, LATENESS)[day]["final"]
    assert tables.days(verdicts, LATENESS)[day]["downloads"] == 1


def test_an_audience_is_of_finished_days_and_each_listener_once() -> None:
    shows = {name: {"show_id": "s", "categories": ["Arts"]} for name in ("a", "b")}
    verdicts = judged(
        entry(0, 0, kind="play"),
        entry(1, 1, kind="play", episode_id="b"),
        entry(2, 2, "bert", heard_ms=1000),
        entry(3, 3, "carl", kind="impression", episode_id="b"),
        entry(4, 75, "dora", kind="play"),
    )
    assert tables.audience(verdicts[:4], LATENESS, shows) == {}
    assert tables.audience(verdicts, LATENESS, shows) == {
        (kind, scope, date(2026, 1, 1)): listeners
        for kind, scope, listeners in (
            ("episode", "a", 2),
            ("episode", "b", 1),
            ("show", "s", 2),
            ("category", "Arts", 2),
            ("all", "", 2),
        )
    }


def test_retention_counts_listeners_by_the_minutes_they_touched() -> None:
    verdicts = judged(
        entry(0, 0, heard_ms=60_000, position_ms=60_000),
        entry(1, 1, heard_ms=60_000, position_ms=60_001),
        entry(2, 2, "bert", heard_ms=200_000, position_ms=130_000),
        entry(3, 3, "carl", heard_ms=60_000, position_ms=256 * 60_000 + 1),
    )
    counts = {
        k: row["listeners"] for (_, _, k), row in tables.retention(verdicts, LATENESS).items()
    }
    assert counts == {0: 2, 1: 2, 2: 1, 255: 1}


def test_rolling_windows_count_listeners_of_a_show_once() -> None:
    verdicts = judged(
        entry(0, 0, kind="play"),
        entry(1, 1, kind="play", episode_id="b"),
        entry(2, 5, "bert", heard_ms=1_200_000),
        entry(3, 5, "bert", kind="click", episode_id="c"),
    )
    episodes = {name: {"show_id": "s", "categories": ["News"]} for name in "ab"}
    at = START + timedelta(minutes=5)
    rows = tables.rolling(verdicts, at, episodes)
    assert {scope for _, scope, _ in rows} == {"a", "b", "c", "s", "News"}
    show = {minutes: row for (kind, _, minutes), row in rows.items() if kind == "show"}
    assert {
        m: (r["listeners"], r["plays"], r["engaged"], r["streams"]) for m, r in show.items()
    } == {
        1: (1, 0, 1, 1),
        5: (2, 1, 1, 1),
        15: (2, 2, 1, 1),
        60: (2, 2, 1, 1),
        1440: (2, 2, 1, 1),
    }
    assert rows["episode", "c", 1] == {**dict.fromkeys(show[1], 0), "clicks": 1}
    # The hour of 22 h before is in the day, the one before that is not.
    assert ("episode", "a", 1440) in tables.rolling(verdicts, START + timedelta(hours=23.9), {})
    assert ("episode", "a", 1440) not in tables.rolling(verdicts, START + timedelta(hours=24), {})


def test_days_in_a_row_may_be_told_out_of_order() -> None:
    day = 24 * 60
    verdicts = judged(
        entry(0, 0, kind="play"),
        entry(1, 30 + 2 * day, kind="play"),
        entry(2, 61 + 2 * day, kind="play"),
        entry(3, 59.5 + 2 * day, kind="play"),
        entry(4, 62 + 3 * day, "bert", kind="click"),
    )
    assert tables.streaks(verdicts) == {
        ("anna", date(2026, 1, 1)): 1,
        ("anna", date(2026, 1, 3)): 1,
        ("anna", date(2026, 1, 4)): 2,
    }


def test_sessions_are_runs_in_time_and_known_when_nothing_can_join_them() -> None:
    verdicts = judged(
        entry(0, 10, kind="play"),
        entry(1, 0, heard_ms=7),
        entry(2, 40, kind="complete"),
        entry(3, 71, kind="play"),
        entry(4, 85, "bert"),
        entry(5, 85.001, "bert"),
    )
    assert tables.sessions(verdicts[:5], LATENESS) == {}
    assert tables.sessions(verdicts, LATENESS) == {
        ("anna", START): {
            "ended_at": START + timedelta(minutes=40),
            "offset": 5,
            "events": 3,
            "plays": 1,
            "completes": 1,
            "heard_ms": 7,
        }
    }


def test_history_of_a_listener_has_late_events_on_their_own_clocks_day() -> None:
    verdicts = judged(
        entry(0, 120, kind="like", duration_ms=9, delay=-90), entry(1, 0, heard_ms=3), entry(2, 125)
    )
    rows = tables.daily(verdicts)
    first, second = rows["anna", "a", date(2026, 1, 1)], rows["anna", "a", date(2026, 1, 2)]
    assert (first["heard_ms"], first["likes"], first["duration_ms"]) == (3, 0, 0)
    assert (second["likes"], second["duration_ms"]) == (1, 9)
    assert second["last_at"] - second["first_at"] == timedelta(minutes=5)


def test_trending_fades_and_compares_with_the_day_before() -> None:
    at = START
    new = {
        ("a", at): 4,
        ("a", at - timedelta(minutes=30)): 2,
        ("a", at - timedelta(minutes=60)): 23,
        ("a", at - timedelta(hours=6)): 46,
        ("a", at - timedelta(hours=24)): 60,
        ("a", at - timedelta(hours=24, minutes=1)): 1000,
        ("b", at - timedelta(hours=7)): 5,
    }
    facts = tables.trending(new, at)
    assert list(facts) == ["a"]
    assert facts["a"] == pytest.approx(
        {"score": 4 + 1 + 23 / 4, "recent": 6, "usual": 128 / 23, "rise": 7 / (151 / 23)}
    )
