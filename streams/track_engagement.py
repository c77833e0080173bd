"""Counts what happens to each episode, minute by minute.

Each source partition keeps its own counts, which add up on read, so nothing is repartitioned in
order to be counted. Every touched row goes out as the whole value so far, also when its events
had been counted before a restart: whether it had been sent then, nobody knows.
"""

from __future__ import annotations

from collections import OrderedDict

import polars as pl

from streams.context import Context, Message, StateTable, decode_all
from streams.core.engagement import (
    Minute,
    by_target,
    fold,
    in_order,
    window_rows,
    with_bucket,
)

LINGER_S = 0.02
"""Enough for what batch_events sent at once, one batch a partition, to arrive together."""

_CACHED_MINUTES = 10_000
_KEY_BYTES = 8


class Minutes:
    """The table's minutes, those used last also decoded."""

    def __init__(self, table: StateTable):
        self._table = table
        self._decoded: OrderedDict[tuple[int, int], Minute] = OrderedDict()

    def get(self, partition: int, bucket: int) -> Minute | None:
        place = (partition, bucket)
        if place in self._decoded:
            self._decoded.move_to_end(place)
            return self._decoded[place]
        value = self._table.get(partition, _key(bucket))
        return None if value is None else self._keep(place, Minute.from_bytes(value))

    def put(self, partition: int, bucket: int, minute: Minute) -> None:
        self._keep((partition, bucket), minute)
        self._table.put(partition, _key(bucket), minute.to_bytes())

    def forget(self) -> None:
        """Drop what is decoded: another worker may own and change it now."""
        self._decoded.clear()

    def _keep(self, place: tuple[int, int], minute: Minute) -> Minute:
        self._decoded[place] = minute
        self._decoded.move_to_end(place)
        if len(self._decoded) > _CACHED_MINUTES:
            self._decoded.popitem(last=False)
        return minute


def _key(bucket: int) -> bytes:
    return bucket.to_bytes(_KEY_BYTES, "big")


def register(context: Context) -> None:
    (source,), (target,) = context.stage.consumes, context.stage.produces
    partitions = context.settings.event_partitions
    minutes = Minutes(context.table("engagement"))
    context.on_rebalance(minutes.forget)

    @context.agent(source, linger_s=LINGER_S)
    async def count(messages: list[Message]) -> None:
        frames: dict[int, list[pl.DataFrame]] = {}
        for message, events in await decode_all(context, messages):
            if events.height:
                frames.setdefault(message.partition, []).append(events)
        rows = [_count_partition(partition, group) for partition, group in frames.items()]
        if rows:
            for partition, group in by_target(pl.concat(rows), partitions).items():
                await context.send(target, group, partition=partition)

    def _count_partition(partition: int, frames: list[pl.DataFrame]) -> pl.DataFrame:
        events = with_bucket(in_order(frames))
        before = {
            bucket: minute
            for bucket in events["bucket"].unique().to_list()
            if (minute := minutes.get(partition, bucket)) is not None
        }
        changed, touched = fold(before, events)
        for bucket, minute in changed.items():
            minutes.put(partition, bucket, minute)
        return window_rows({**before, **changed}, touched, partition)
