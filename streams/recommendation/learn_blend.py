"""Learns online which signal earns plays; prequential metrics; drift.

In: `user-event-batches`; broadcast: `recommendations`. Out: `blend-weights`, keyed by source
partition, and `model-metrics`. One model a source partition, so that its state and its offset are
one value. What was shown is looked up in the lists that `recommend` sent, of which the current and
the previous one of each listener are remembered, and read once somebody is shown something.

Of a listener who is forgotten, nothing awaits its outcome any more; what was learned stays.

Bad input: a message without rows is dead-lettered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from streams.kafka.forgetting import Forgetting, forgetting_of
from streams.kafka.message import Message
from streams.recommendation.core import blend
from streams.recommendation.core.blend import Blend, BlendEvent
from streams.recommendation.core.scoring import ScoreParts
from streams.runtime.context import Context, broadcast_records, decode_all
from streams.state.keyed_table import StateTable
from streams.state.recent import RecentValues
from topology.tables import BLEND
from topology.topics.events import USER_EVENT_BATCHES
from topology.topics.recommendation import BLEND_WEIGHTS, MODEL_METRICS, RECOMMENDATIONS

PUBLISH_EVERY_S = 2.0
LINGER_S = 5.0
"""Each piece writes the whole state of its partition anew, and weights may be seconds old."""

METRICS_EVERY_S = 30.0
"""Figures are kept for ever: they are told as often as somebody looks at a curve of them."""

MAX_BATCH = 256
MOST_LISTENERS = 20_000
"""Listeners whose lists are remembered, the latest ones."""


def register(context: Context) -> None:
    """Declare the stage's handlers."""
    BlendLearner(context)


class BlendLearner:
    """The stage's handlers on one context."""

    def __init__(self, context: Context):
        self._context = context
        self._table: StateTable = context.table(BLEND)
        self._lists = ShownLists(self._parts_in)
        self._published: dict[int, int] = {}
        self._measured: dict[int, tuple[float, int]] = {}
        """Partition -> when its figures were told, and of how many samples."""
        context.on_rebalance(self._published.clear)
        context.on_rebalance(self._measured.clear)
        context.broadcast(RECOMMENDATIONS, self._handle_recommendations)
        context.agent(USER_EVENT_BATCHES, max_batch=MAX_BATCH, linger_s=LINGER_S)(
            self._handle_user_event_batches
        )
        context.timer(PUBLISH_EVERY_S)(self._publish)

    def _handle_recommendations(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if message.key is None:
                continue
            if message.value is not None:
                self._lists.put(message)
            else:
                self._lists.drop(message.key_text)

    def _parts_in(self, message: Message) -> PartsByEpisode:
        """What a `recommendation` lists; nothing where it does not decode."""
        return {
            item["episode_id"]: _personal(item["parts"])
            for _, shown in broadcast_records(self._context, [message])
            for item in (shown["items"] if shown is not None else ())
        }

    async def _handle_user_event_batches(self, messages: list[Message]) -> None:
        rows: dict[int, list[BlendEvent | Forgetting]] = {}
        for message, frame in await decode_all(self._context, messages):
            if (forgetting := forgetting_of(message.headers)) is not None:
                rows.setdefault(message.partition, []).append(forgetting)
            rows.setdefault(message.partition, []).extend(_rows(frame, message.timestamp_ms))
        for partition, partition_rows in rows.items():
            before = self._load(partition)
            after = blend.fold(before, partition_rows, self._lists.parts_of)
            if after.offset != before.offset or after.pending != before.pending:
                self._table.put(partition, b"", blend.encode(after))

    def _load(self, partition: int) -> Blend:
        value = self._table.get(partition)
        return blend.decode(value) if value is not None else Blend()

    async def _publish(self) -> None:
        for partition in sorted(self._table.partitions()):
            state = self._load(partition)
            # A worker that just started publishes once: what came before it may be lost.
            if state.samples and self._published.get(partition) != state.samples:
                await self._publish_weights(partition, state)
                self._published[partition] = state.samples
            now = self._context.clock.monotonic()
            told_at, samples = self._measured.get(partition, (now - METRICS_EVERY_S, 0))
            if state.samples != samples and now - told_at >= METRICS_EVERY_S:
                await self._publish_figures(partition, state)
                self._measured[partition] = (now, state.samples)

    async def _publish_weights(self, partition: int, state: Blend) -> None:
        at = datetime.fromtimestamp(state.clock_ms / 1000, UTC)
        weights = {
            "source_partition": partition,
            **blend.weights(state)._asdict(),
            "intercept": state.intercept,
            "samples": state.samples,
            "offset": state.offset,
            "at": at,
        }
        await self._context.send(BLEND_WEIGHTS, weights, key=str(partition))

    async def _publish_figures(self, partition: int, state: Blend) -> None:
        at = datetime.fromtimestamp(state.clock_ms / 1000, UTC)
        generation = f"partition-{partition}"
        for metric, value in blend.figures(state).items():
            record = {
                "model": "blend",
                "generation": generation,
                "metric": metric,
                "value": value,
                "at": at,
            }
            await self._context.send(MODEL_METRICS, record, key=f"blend|{generation}|{metric}")


def _personal(parts: dict[str, Any]) -> ScoreParts:
    """The parts that are learned from: where a list was ranked, the ranker speaks for ALS."""
    ranked = parts["ranked"]
    return ScoreParts(
        parts["als"] if ranked is None else ranked, parts["content"], parts["trending"]
    )


PartsByEpisode = dict[str, ScoreParts]


class ShownLists:
    """The parts of what is in each listener's current and previous list.

    Most lists make room for the next one before anything of them is shown: a list is kept as it
    came, and read by ``parts_in`` when it is asked for.
    """

    def __init__(
        self, parts_in: Callable[[Message], PartsByEpisode], most: int = MOST_LISTENERS
    ) -> None:
        self._parts_in = parts_in
        self._lists: RecentValues[str, list[Message | PartsByEpisode]] = RecentValues(most)

    def put(self, message: Message) -> None:
        """Take over a record of `recommendations`, the next one in the log."""
        newest = [message, *(self._lists.get(message.key_text) or ())[:1]]
        self._lists.put(message.key_text, newest)

    def drop(self, user_id: str) -> None:
        """Forget a listener's lists."""
        self._lists.drop(user_id)

    def parts_of(self, user_id: str, episode_id: str) -> ScoreParts | None:
        """The parts of an episode in a listener's list; the current list goes first."""
        lists = self._lists.get(user_id) or []
        for place, listed in enumerate(lists):
            read = self._parts_in(listed) if isinstance(listed, Message) else listed
            lists[place] = read
            if (parts := read.get(episode_id)) is not None:
                return parts
        return None


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
