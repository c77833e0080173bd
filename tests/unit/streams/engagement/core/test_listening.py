"""Daily amounts: each batch of events adds its own, once."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import columnar
from streams.engagement.core.listening import added_by

MIDNIGHT = int(datetime(2026, 1, 2, tzinfo=UTC).timestamp() * 1000)
SUMS = ("impressions", "clicks", "plays", "completes", "heard_ms", "likes", "dislikes")
KINDS = {
    "impression": "impressions",
    "click": "clicks",
    "play": "plays",
    "complete": "completes",
    "like": "likes",
    "dislike": "dislikes",
}

rows = st.tuples(
    st.sampled_from(["ada", "bob"]),
    st.sampled_from(["pi:1", "pi:2"]),
    st.sampled_from([*KINDS, "progress", "follow"]),
    st.integers(-5000, 5000).map(lambda ms: MIDNIGHT + ms),
    st.integers(0, 60_000),
    st.sampled_from([None, 0, 60_000, 90_000]),
)


def frame(log: list[tuple[Any, ...]], start: int, end: int) -> pl.DataFrame:
    names = ("user_id", "episode_id", "kind", "occurred_at", "heard_ms", "duration_ms")
    data = [
        {"partition": 1, "offset": offset, **dict(zip(names, log[offset], strict=True))}
        for offset in range(start, end)
    ]
    types = dict(columnar.columns("user_event")) | {"occurred_at": pl.Int64()}
    return pl.DataFrame(data, schema=types).cast({"occurred_at": pl.Datetime("ms", "UTC")})


def oracle(log: list[tuple[Any, ...]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    days: dict[tuple[Any, ...], dict[str, Any]] = {}
    for user_id, episode_id, kind, at, heard_ms, duration_ms in log:
        time = datetime.fromtimestamp(at / 1000, UTC)
        row = days.setdefault(
            (user_id, episode_id, time.date()),
            {**dict.fromkeys(SUMS, 0), "first_at": time, "last_at": time, "duration_ms": 0},
        )
        if kind in KINDS:
            row[KINDS[kind]] += 1
        row["heard_ms"] += heard_ms
        row["first_at"], row["last_at"] = min(row["first_at"], time), max(row["last_at"], time)
        row["duration_ms"] = max(row["duration_ms"], duration_ms or 0)
    return days


def read(messages: list[pl.DataFrame]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What a reader has that skips the ranges it has applied."""
    days: dict[tuple[Any, ...], dict[str, Any]] = {}
    applied = -1
    for message in messages:
        if message["last_offset"][0] <= applied:
            continue
        assert message["first_offset"][0] > applied
        applied = message["last_offset"][0]
        for row in message.iter_rows(named=True):
            key = (row["user_id"], row["episode_id"], row["day"])
            told = {name: row[name] for name in (*SUMS, "first_at", "last_at", "duration_ms")}
            if (known := days.get(key)) is None:
                days[key] = told
                continue
            for name in SUMS:
                known[name] += told[name]
            known["first_at"] = min(known["first_at"], told["first_at"])
            known["last_at"] = max(known["last_at"], told["last_at"])
            known["duration_ms"] = max(known["duration_ms"], told["duration_ms"])
    return days


@given(
    st.lists(rows, min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 8), st.booleans()), max_size=8),
)
@settings(max_examples=80, deadline=None)
def test_any_cut_and_any_repeat_add_up_to_the_events(
    log: list[tuple[Any, ...]], steps: list[tuple[int, int, bool]]
) -> None:
    """Batches come again, overlap, and are sent twice after a kill between output and state."""
    state = -1
    sent: list[pl.DataFrame] = []
    reached = 0
    for back, size, killed in [*steps, (0, len(log), False)]:
        start = max(0, reached - back)
        end = min(len(log), start + size)
        if start == end:
            continue
        for state_is_lost in [True, False] if killed else [False]:
            if (added := added_by(frame(log, start, end), state)) is not None:
                message = columnar.to_message(added, "user_episode_daily")
                sent.append(columnar.from_message(message, "user_episode_daily"))
                if not state_is_lost:
                    state = added["last_offset"][0]
        reached = max(reached, end)
    assert read(sent) == oracle(log)


def test_a_day_ends_at_midnight_utc() -> None:
    log = [("ada", "pi:1", "play", at, 0, None) for at in (MIDNIGHT - 1, MIDNIGHT)]
    added = added_by(frame(log, 0, 2), -1)
    assert added is not None
    assert added["day"].to_list() == [date(2026, 1, 1), date(2026, 1, 2)]


def test_nothing_new_adds_nothing() -> None:
    log = [("ada", "pi:1", "play", MIDNIGHT, 5, None)]
    assert added_by(frame(log, 0, 1), 0) is None
    assert added_by(frame(log, 0, 0), -1) is None
