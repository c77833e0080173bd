"""Ranks episodes by time-decayed engagement, overall and per category.

Each partition ranks its own episodes; a reader merges the partitions with
`streams.core.trending.merge_scopes`. How scores are made is told in `streams.core.trending`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from schemas.codec import BadRecordError
from streams.context import Context, Message, StateTable, decode_all
from streams.core.trending import (
    HORIZON_MS,
    Part,
    Place,
    Seen,
    apply,
    bucket_from_bytes,
    bucket_to_bytes,
    newest,
    rankings,
    scores,
    summary,
)

PUBLISH_EVERY_S = 2.0
LINGER_S = 0.5
_KEY_BYTES = 8
_CLOCK_KEY = b"at"


class Recent:
    """The recent minutes of one partition, and how far its event time has got."""

    def __init__(self, table: StateTable, partition: int):
        self._table = table
        self._partition = partition
        self.at = int.from_bytes(table.get(partition, _CLOCK_KEY) or b"", "big")
        self.buckets: dict[int, dict[Part, Seen]] = {
            int.from_bytes(key, "big"): bucket_from_bytes(value)
            for key, value in table.items(partition)
            if key != _CLOCK_KEY
        }
        self.summaries = {bucket: summary(bucket, parts) for bucket, parts in self.buckets.items()}
        self.published: dict[str, list[Place]] = {}
        self.changed = True

    def apply(self, logged: list[tuple[pl.DataFrame, int]]) -> None:
        """Take in window rows with their log times, and forget what has become old by them."""
        at = self.at
        for windows, log_ms in logged:
            at = newest(windows, at, log_ms)
        if at != self.at:
            self.at = at
            self._table.put(self._partition, _CLOCK_KEY, at.to_bytes(_KEY_BYTES, "big"))
        windows = pl.concat([windows for windows, _ in logged])
        recent = windows.filter(pl.col("bucket").dt.epoch("ms") > at - HORIZON_MS)
        for bucket, parts in apply(self.buckets, recent).items():
            self.buckets[bucket] = parts
            self.summaries[bucket] = summary(bucket, parts)
            self._table.put(self._partition, _key(bucket), bucket_to_bytes(parts))
        for bucket in [bucket for bucket in self.buckets if bucket <= at - HORIZON_MS]:
            del self.buckets[bucket], self.summaries[bucket]
            self._table.delete(self._partition, _key(bucket))
        self.changed = True


def _key(bucket: int) -> bytes:
    return bucket.to_bytes(_KEY_BYTES, "big")


def register(context: Context) -> None:
    (source,), (target,) = context.stage.consumes, context.stage.produces
    (episodes,) = context.stage.broadcast
    table = context.table("trending")
    partitions: dict[int, Recent] = {}
    categories: dict[str, Sequence[str]] = {}
    context.on_rebalance(partitions.clear)

    def know(messages: Sequence[Message]) -> None:
        for message in messages:
            episode_id = (message.key or b"").decode(errors="replace")
            if message.value is None:
                categories.pop(episode_id, None)
                continue
            try:
                categories[episode_id] = context.decode(message)["categories"]
            except BadRecordError:
                # The stage that consumes these records has them put aside.
                continue

    context.broadcast(episodes, know)

    def recent(partition: int) -> Recent:
        if partition not in partitions:
            partitions[partition] = Recent(table, partition)
        return partitions[partition]

    @context.agent(source, linger_s=LINGER_S)
    async def take(messages: list[Message]) -> None:
        logged: dict[int, list[tuple[pl.DataFrame, int]]] = {}
        for message, windows in await decode_all(context, messages):
            logged.setdefault(message.partition, []).append((windows, message.timestamp_ms))
        for partition, group in logged.items():
            recent(partition).apply(group)

    @context.timer(PUBLISH_EVERY_S)
    async def publish() -> None:
        for partition in table.partitions():
            held = recent(partition)
            if held.changed:
                held.changed = False
                await _publish(partition, held)

    async def _publish(partition: int, held: Recent) -> None:
        now = rankings(scores(held.summaries.values(), held.at), categories)
        for scope in {**held.published, **now}:
            if now.get(scope) != held.published.get(scope):
                await context.send(
                    target,
                    _record(scope, partition, held.at, now.get(scope, [])),
                    key=f"{scope}|{partition}",
                )
        held.published = now


def _record(scope: str, partition: int, at: int, places: list[Place]) -> dict[str, Any]:
    return {
        "scope": scope,
        "source_partition": partition,
        "at": datetime.fromtimestamp(at / 1000, UTC),
        "episodes": places,
    }
