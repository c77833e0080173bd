"""Sums of a rebuild, and the events of a partition as time goes on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from schemas import columnar
from schemas.codec import RecordCodec
from schemas.registry import FixedRegistry
from streams.engagement.core.engagement import Engagement
from streams.events.core.batching import Chunk, PartitionBatcher
from streams.events.core.events import EventDecoder
from streams.events.core.origins import Source
from streams.operations.core import rebuild
from streams.operations.core.rebuild import Replay, Sum, newest_parts
from topology.graph import build_graph, declared_subjects

REGISTRY = FixedRegistry(declared_subjects(build_graph(1)))
START = datetime(2026, 1, 31, 23, 0, tzinfo=UTC)
PARTS = columnar.columns("engagement_window")


def part(offset: int, plays: int) -> pl.DataFrame:
    """The row of one minute, as it was when ``offset`` had been counted."""
    row = {"episode_id": "pi:1", "bucket": START, "source_partition": 0}
    row |= {"offset": offset, "plays": plays}
    return pl.DataFrame({name: row.get(name, 0) for name in PARTS}, schema=PARTS)


@pytest.mark.parametrize("pending_rows", [0, 2, 500_000])
def test_a_sum_is_the_same_however_often_it_is_added_up(
    monkeypatch: pytest.MonkeyPatch, pending_rows: int
) -> None:
    monkeypatch.setattr(rebuild, "_PENDING_ROWS", pending_rows)
    added = 0

    def add(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
        nonlocal added
        added += 1
        return newest_parts(frames)

    newest = Sum(add, pl.DataFrame(schema=PARTS))
    for offset in (3, 1, 7, 5):
        newest.put(part(offset, plays=10 * offset))
    assert newest.total().select("offset", "plays").rows() == [(7, 70)]
    assert newest.total().height == 1
    assert added == {0: 3, 2: 2, 500_000: 1}[pending_rows]


def test_minutes_that_are_over_leave_the_state_and_stay_counted() -> None:
    """A play every ten minutes for five hours, across midnight: the state holds a few hours of
    them at the end, the table all."""
    codec = RecordCodec("user-events", "user_event", REGISTRY)
    times = [START + timedelta(minutes=10 * number) for number in range(30)]
    values = [
        codec.encode(
            {
                "event_id": f"e{number}",
                "user_id": "ada",
                "episode_id": "pi:1",
                "kind": "play",
                "occurred_at": at,
            }
        )
        for number, at in enumerate(times)
    ]
    source = Source("", 1, 1_048_588)
    batcher = PartitionBatcher(0, 0, 100, EventDecoder("user-events", REGISTRY), source)
    replay = Replay(batcher, Engagement(900_000), baseline=29, until=29)
    for offset, (at, value) in enumerate(zip(times, values, strict=True)):
        replay.feed(Chunk([offset], [round(at.timestamp() * 1000)], [value]))
    parts = replay.parts.total().sort("offset")
    assert parts["bucket"].to_list() == times
    assert parts["plays"].to_list() == [1] * 30
    assert len(replay.state.minutes) < 30
    assert len(replay.state.days) == 1
