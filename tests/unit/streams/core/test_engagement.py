"""The counts are those of the events, in whatever cut and however often they come."""

from __future__ import annotations

from collections import Counter
from zlib import crc32

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import columnar
from streams.core.engagement import (
    COUNTS,
    MINUTE_MS,
    Minute,
    by_target,
    fold,
    in_order,
    window_rows,
    with_bucket,
)

NOW = 1_767_225_600_000
KINDS = {"impression": 0, "click": 1, "play": 2, "complete": 3}

rows = st.tuples(
    st.sampled_from(["pi:1", "pi:2", "rss:ü"]),
    st.sampled_from([*KINDS, "progress", "like", "follow"]),
    st.integers(0, 3 * MINUTE_MS).map(lambda ms: NOW + ms),
    st.integers(0, 60_000),
)


def frame(log: list[tuple], start: int, end: int) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "partition": 1,
                "offset": offset,
                "event_id": f"e{offset}",
                "user_id": "ada",
                "episode_id": log[offset][0],
                "kind": log[offset][1],
                "occurred_at": log[offset][2],
                "heard_ms": log[offset][3],
                "position_ms": 0,
            }
            for offset in range(start, end)
        ],
        schema=dict(columnar.columns("user_event")) | {"occurred_at": pl.Int64()},
    ).cast({"occurred_at": pl.Datetime("ms", "UTC")})


def oracle(log: list[tuple]) -> dict[tuple[str, int], list[int]]:
    """(episode, minute) -> counts, in plain Python."""
    counts: dict[tuple[str, int], list[int]] = {}
    for episode_id, kind, at, heard_ms in log:
        row = counts.setdefault((episode_id, at - at % MINUTE_MS), [0] * len(COUNTS))
        if kind in KINDS:
            row[KINDS[kind]] += 1
        row[4] += heard_ms
    return counts


def counted(minutes: dict[int, Minute]) -> dict[tuple[str, int], list[int]]:
    return {
        (episode_id, bucket): list(row[1:])
        for bucket, minute in minutes.items()
        for episode_id, row in minute.rows.items()
    }


deliveries = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=10)
"""Batches that come out of turn: how far back of what is known, and how many rows."""


@given(st.lists(rows, min_size=1, max_size=30), deliveries)
@settings(max_examples=80, deadline=None)
def test_any_cut_and_any_repeat_give_the_same_counts(
    log: list[tuple], jumps: list[tuple[int, int]]
) -> None:
    minutes: dict[int, Minute] = {}
    seen: dict[tuple[str, int], tuple] = {}
    reached = 0
    for back, size in [*jumps, (0, len(log))]:
        start = max(0, reached - back)
        end = min(len(log), start + size)
        if start == end:
            continue
        reached = max(reached, end)
        events = with_bucket(in_order([frame(log, start, end), frame(log, start, end)]))
        stored = {bucket: Minute.from_bytes(m.to_bytes()) for bucket, m in minutes.items()}
        changed, touched = fold(stored, events)
        assert stored == minutes
        minutes |= changed
        # What goes out: of each key the highest offset is the newest whole value.
        for row in window_rows(minutes, touched, 1).iter_rows(named=True):
            key = (row["episode_id"], int(row["bucket"].timestamp() * 1000))
            if key not in seen or row["offset"] >= seen[key][0]:
                seen[key] = (row["offset"], *(row[name] for name in COUNTS))
    assert counted(minutes) == oracle(log)
    assert {key: list(row[1:]) for key, row in seen.items()} == oracle(log)


@given(st.lists(rows, min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_everything_touched_goes_out_again_when_nothing_is_new(log: list[tuple]) -> None:
    events = with_bucket(frame(log, 0, len(log)))
    minutes, touched = fold({}, events)
    changed, again = fold(minutes, events)
    assert changed == {} and sorted(again) == sorted(touched)
    assert window_rows(minutes, again, 1).equals(window_rows(minutes, touched, 1))


def test_rows_go_to_the_partition_of_their_episode() -> None:
    log = [(f"pi:{n}", "play", NOW, n) for n in range(50)]
    minutes, touched = fold({}, with_bucket(frame(log, 0, 50)))
    groups = by_target(window_rows(minutes, touched, 1), 4)
    found = Counter()
    for target, group in groups.items():
        message = columnar.to_message(group, "engagement_window")
        for episode_id in columnar.from_message(message, "engagement_window")["episode_id"]:
            assert crc32(episode_id.encode()) % 4 == target
            found[episode_id] += 1
    assert found == Counter(f"pi:{n}" for n in range(50))


def test_a_minute_begins_at_its_first_millisecond() -> None:
    first, last = NOW, NOW + MINUTE_MS - 1
    log = [("pi:1", "play", at, 0) for at in (first, last, last + 1)]
    assert with_bucket(frame(log, 0, 3))["bucket"].to_list() == [NOW, NOW, NOW + MINUTE_MS]
