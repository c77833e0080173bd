"""`learn_blend`: learns online which signal earns plays; prequential metrics; drift.

One model a source partition, so that its state and its offset are one value. What was shown is
looked up in the lists that `recommend` sent, of which the current and the previous one of each
listener are remembered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from schemas.codec import BadRecordError
from streams.kafka.message import Message
from streams.recommendation.core import blend
from streams.recommendation.core.blend import Blend, BlendEvent
from streams.recommendation.core.scoring import ScoreParts
from streams.runtime.context import Context, decode_all
from streams.state.protocols import StateTable
from streams.state.recent import RecentValues

log = logging.getLogger(__name__)

PUBLISH_EVERY_S = 2.0
LINGER_S = 1.0
MOST_LISTENERS = 20_000
"""Listeners whose lists are remembered, the latest ones."""


PartsByEpisode = dict[str, ScoreParts]


class ShownLists:
    """The parts of what is in each listener's current and previous list."""

    def __init__(self, most: int = MOST_LISTENERS):
        self._lists: RecentValues[str, tuple[PartsByEpisode, PartsByEpisode]] = RecentValues(most)

    def put(self, record: dict[str, Any]) -> None:
        """Take over a `recommendation` record, the next one in the log."""
        current = {
            item["episode_id"]: ScoreParts(*(item["parts"][name] for name in ScoreParts._fields))
            for item in record["items"]
        }
        previous, _ = self._lists.get(record["user_id"]) or ({}, {})
        self._lists.put(record["user_id"], (current, previous))

    def parts_of(self, user_id: str, episode_id: str) -> ScoreParts | None:
        """The parts of an episode in a listener's list; the current list goes first."""
        current, previous = self._lists.get(user_id) or ({}, {})
        return current.get(episode_id) or previous.get(episode_id)


def register(context: Context) -> None:
    """Declare the stage's handlers."""
    table: StateTable = context.table("blend")
    lists = ShownLists()
    published: dict[int, int] = {}

    def handle_recommendations(messages: Sequence[Message]) -> None:
        for message in messages:
            if message.value is None:
                continue
            try:
                lists.put(context.decode(message))
            except BadRecordError as error:
                log.warning(
                    "%s[%d]@%d is passed over: %s",
                    message.topic,
                    message.partition,
                    message.offset,
                    error,
                )

    context.broadcast("recommendations", handle_recommendations)
    context.on_rebalance(published.clear)

    def load(partition: int) -> Blend:
        value = table.get(partition)
        return blend.decode(value) if value is not None else Blend()

    @context.agent("user-event-batches", max_batch=256, linger_s=LINGER_S)
    async def handle_user_event_batches(messages: list[Message]) -> None:
        rows: dict[int, list[BlendEvent]] = {}
        for message, frame in await decode_all(context, messages):
            rows.setdefault(message.partition, []).extend(_rows(frame, message.timestamp_ms))
        for partition, partition_rows in rows.items():
            before = load(partition)
            after = blend.fold(before, partition_rows, lists.parts_of)
            if after.offset != before.offset:
                table.put(partition, b"", blend.encode(after))

    @context.timer(PUBLISH_EVERY_S)
    async def publish() -> None:
        for partition in sorted(table.partitions()):
            state = load(partition)
            # A worker that just started publishes once: what came before it may be lost.
            if state.samples and published.get(partition) != state.samples:
                await _publish(context, partition, state)
                published[partition] = state.samples


def _rows(frame: pl.DataFrame, log_ms: int) -> list[BlendEvent]:
    """The rows that matter: whoever shows or plays; others only let time pass."""
    selected = frame.select(
        "offset",
        "user_id",
        "episode_id",
        pl.col("kind").cast(pl.String),
        pl.col("occurred_at").dt.epoch("ms"),
        "session_id",
        pl.lit(log_ms),
    )
    return [BlendEvent._make(row) for row in selected.iter_rows()]


async def _publish(context: Context, partition: int, state: Blend) -> None:
    at = datetime.fromtimestamp(state.clock_ms / 1000, UTC)
    weights = {
        "source_partition": partition,
        **blend.weights(state)._asdict(),
        "intercept": state.intercept,
        "samples": state.samples,
        "offset": state.offset,
        "at": at,
    }
    await context.send("blend-weights", weights, key=str(partition))
    generation = f"partition-{partition}"
    for metric, value in blend.figures(state).items():
        record = {
            "model": "blend",
            "generation": generation,
            "metric": metric,
            "value": value,
            "at": at,
        }
        await context.send("model-metrics", record, key=f"blend|{generation}|{metric}")
