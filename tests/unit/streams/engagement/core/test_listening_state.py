"""The state of a partition's listeners: a function of the log, also when restored from a log."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import columnar
from streams.engagement.core.listening_state import Listening, ListeningRows
from streams.events.core.event_rows import event_rows

EVENING = int(datetime(2026, 1, 1, 23, 20, tzinfo=UTC).timestamp() * 1000)
MINUTE = 60_000
LATENESS = 15 * MINUTE
PARTITION = 2
CRAWLER = "Googlebot/2.1 (+http://www.google.com/bot.html)"

steps = st.lists(
    st.tuples(
        st.sampled_from(("ada", "bob", "eve")),
        st.sampled_from((0, 1, MINUTE, 20 * MINUTE, 31 * MINUTE, 24 * 60 * MINUTE)),
        st.sampled_from((0, 0, 0, -2 * MINUTE, LATENESS, LATENESS + 1)),
        st.sampled_from(("play", "progress", "impression", "complete")),
        st.sampled_from((0, 5000)),
        st.sampled_from((None, None, CRAWLER)),
    ),
    min_size=1,
    max_size=25,
)


def log_of(drawn: list[tuple[Any, ...]]) -> pl.DataFrame:
    """Events by time of arrival; an event that is late by less than nothing has a fast clock."""
    now, events = EVENING, []
    for place, (user, forward, late, kind, heard_ms, agent) in enumerate(drawn):
        now += forward
        events.append(
            {
                "partition": PARTITION,
                "offset": 3 * place,  # what lies between was refused
                "logged_at": now,
                "user_id": user,
                "episode_id": "pi:1",
                "kind": kind,
                "occurred_at": now - late,
                "heard_ms": heard_ms,
                "position_ms": 0,
                "user_agent": agent,
            }
        )
    columns = columnar.columns("user_event")
    times = dict.fromkeys(("logged_at", "occurred_at"), pl.Int64())
    return pl.DataFrame(events, schema={**columns, **times}).cast(columns)


def cut(log: pl.DataFrame, chance: random.Random) -> list[pl.DataFrame]:
    batches, start = [], 0
    while start < log.height:
        batches.append(log[start : start + chance.randrange(1, 12)])
        start += batches[-1].height
    return batches


def fold(state: Listening, batch: pl.DataFrame) -> ListeningRows:
    return state.apply(event_rows([batch], state.applied))


def contents(state: Listening) -> dict[str, Any]:
    """What a state holds, by names, without rows that are over already."""
    state.sessions.settle(state.watermark)
    state.streaks.drop_old(state.watermark)
    found: dict[str, Any] = {
        name: getattr(state, name) for name in ("applied", "watermark", "late", "events")
    }
    for name, part in (("sessions", state.sessions), ("streaks", state.streaks)):
        rows = part.rows.to_arrow().to_pylist()
        keys = [(state.users[key >> 32], key & 0xFFFFFFFF) for key in part.rows.keys.tolist()]
        found[name] = {key: {**row, "key": 0} for key, row in zip(keys, rows, strict=True)}
    return found


@given(steps, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_state_and_its_news_do_not_depend_on_the_batches(
    drawn: list[Any], chance: random.Random
) -> None:
    log = log_of(drawn)
    one, other = (Listening(PARTITION, LATENESS) for _ in range(2))
    news = [fold(one, batch) for batch in cut(log, chance)]
    again = [fold(other, batch) for batch in cut(log, chance)]
    assert contents(one) == contents(other)
    key = ["offset", "user_id", "started_at"]
    sessions, same = (pl.concat([n.sessions for n in told]) for told in (news, again))
    assert sessions["offset"].is_sorted()
    assert set(sessions["offset"]) <= set(log["offset"])
    assert sessions.sort(key).equals(same.sort(key))
    assert newest(news) == newest(again)


def newest(news: list[ListeningRows]) -> dict[tuple[Any, ...], int]:
    rows = (row for n in news for row in n.streaks.iter_rows(named=True))
    return {(row["user_id"], row["day"]): row["days"] for row in rows}


@given(steps, st.integers(1, 4), st.integers(0, 10), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_a_restored_state_goes_on_as_the_one_that_was_saved(
    drawn: list[Any], size: int, snapshots: int, saved: int
) -> None:
    log = log_of(drawn)
    batches = [log[start : start + size] for start in range(0, log.height, size)]
    state = Listening(PARTITION, LATENESS)
    snapshot: list[bytes] = []
    changes: list[bytes] = []
    for place, batch in enumerate(batches[: saved + 1]):
        fold(state, batch)
        changes.append(state.changes())
        if place == snapshots:
            snapshot, changes = list(state.snapshot()), []
    restored = Listening(PARTITION, LATENESS)
    restored.load_snapshot(snapshot)
    for value in changes:
        restored.load_changes(value)
    for batch in batches[saved + 1 :]:
        one, other = fold(state, batch), fold(restored, batch)
        assert sorted(one.sessions.rows()) == sorted(other.sessions.rows())
        assert sorted(one.streaks.rows()) == sorted(other.streaks.rows())
    assert contents(restored) == contents(state)


@given(steps, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_changes_go_over_a_state_that_has_some_of_them(
    drawn: list[Any], chance: random.Random
) -> None:
    """Two workers folded the same log in batches of their own; both have written."""
    log = log_of(drawn)
    first, second = Listening(PARTITION, LATENESS), Listening(PARTITION, LATENESS)
    reached = chance.randrange(1, log.height + 1)
    for batch in cut(log[:reached], chance):
        fold(first, batch)
    for batch in cut(log, chance):
        fold(second, batch)
    restored = Listening(PARTITION, LATENESS)
    restored.load_changes(first.changes())
    restored.load_changes(second.changes())
    assert contents(restored) == contents(second)


def test_listeners_that_are_gone_leave_the_state() -> None:
    state = Listening(PARTITION, LATENESS)
    day = [(f"u{n}", 1, 0, "play", 5, None) for n in range(3000)]
    later = [("ada", 5 * 24 * 60 * MINUTE, 0, "play", 5, None)]
    log = log_of(day + later + [("bob", 1, 0, "play", 5, None)])
    for start in range(0, log.height, 500):
        news = fold(state, log[start : start + 500])
    assert news.sessions.height == 3000
    pieces = list(state.snapshot())
    assert state.users.all() == ["ada", "bob"]
    assert sum(map(len, pieces)) < 10_000
    restored = Listening(PARTITION, LATENESS)
    restored.load_snapshot(pieces)
    assert contents(restored) == contents(state)
    assert state.users.of(state.streaks.users()) == ["ada", "bob"]


def test_a_late_event_and_a_crawler_are_counted_but_do_not_listen() -> None:
    log = log_of(
        [
            ("ada", 0, 0, "play", 5, CRAWLER),
            ("bob", 20 * MINUTE, 0, "impression", 0, None),
            ("eve", 0, LATENESS + 1, "play", 5, None),
        ]
    )
    state = Listening(PARTITION, LATENESS)
    news = fold(state, log)
    assert (state.events, state.late, state.applied) == (3, 1, 6)
    assert news.streaks.is_empty()
    assert {name for name, _ in contents(state)["sessions"]} == {"ada", "bob"}


@pytest.mark.parametrize("name", ["sessions", "streaks"])
def test_no_news_have_the_columns_of_news(name: str) -> None:
    news = fold(Listening(PARTITION, LATENESS), log_of([("ada", 0, 0, "impression", 0, None)]))
    rows: pl.DataFrame = getattr(news, name)
    assert rows.is_empty()
    assert rows.schema == columnar.columns(
        {"sessions": "listening_session"}.get(name, "listening_streak")
    )


@given(steps, st.integers(0, 25), st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=60, deadline=None)
def test_to_be_forgotten_and_go_on_is_never_to_have_been_heard_of(
    drawn: list[Any], place: int, chance: random.Random, restored: bool
) -> None:
    log, state, anew = log_of(drawn), Listening(PARTITION, LATENESS), Listening(PARTITION, LATENESS)
    mine = (pl.col("user_id") == "ada") & (pl.int_range(pl.len()) < place)
    other = log.with_columns(
        pl.when(mine).then(pl.lit("nobody")).otherwise("user_id").alias("user_id")
    )
    for batch in cut(log[:place], chance):
        fold(state, batch)
    assert state.forget("ada", "nobody") == (
        "ada" in log[:place].filter(~late_rows(log[:place]))["user_id"]
    )
    assert "ada" not in state.users.all()
    if restored:
        pieces = list(state.snapshot())
        assert not any(b"ada" in piece for piece in pieces)
        state = Listening(PARTITION, LATENESS)
        state.load_snapshot(pieces)
    for batch in cut(other[:place], chance):
        fold(anew, batch)
    told = [fold(state, batch).sessions for batch in cut(log[place:], chance)]
    wanted = [fold(anew, batch).sessions for batch in cut(other[place:], chance)]
    if told:
        key = ["offset", "user_id", "started_at"]
        others = pl.concat(wanted).filter(pl.col("user_id") != "nobody")
        assert pl.concat(told).sort(key).equals(others.sort(key))
    assert known(contents(state)) == known(contents(anew))


def late_rows(log: pl.DataFrame) -> pl.Series:
    """Which events are too late to be taken in, by definition."""
    times = log.select(pl.min_horizontal("occurred_at", "logged_at").dt.epoch("ms"))
    counted = times.to_series().to_list()
    newest = [max(counted[: n + 1], default=0) for n in range(-1, len(counted) - 1)]
    return pl.Series(
        [n > 0 and at < newest[n] - LATENESS for n, at in enumerate(counted)], dtype=pl.Boolean
    )


def known(found: dict[str, Any]) -> dict[str, Any]:
    """What a state holds without what is nobody's."""
    return {
        name: {key: row for key, row in part.items() if key[0] != "nobody"}
        if isinstance(part, dict)
        else part
        for name, part in found.items()
    }
