"""Ranks episodes by new listeners, overall and per category and language.

In: `engagement-windows`; broadcast: `episode-metadata`, for categories and languages. Out:
`trending-episodes`, keyed by scope and partition. Each partition ranks its own episodes; a reader
merges the partitions with `streams.engagement.core.trending.merge_scopes`. How scores are made is
told in `streams.engagement.core.trending`.

Bad input: a message without rows is dead-lettered; episodes without a record rank in `all` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from schemas.units import MINUTE_MS
from streams.engagement.core.trending import Board, TrendingScopes
from streams.engagement.core.trending_state import TrendingState
from streams.engagement.core.window_rows import WindowMessage
from streams.kafka.message import Message
from streams.runtime.context import Context, decode_partitions, keyed_records
from topology.tables import TRENDING
from topology.topics.engagement import ENGAGEMENT_WINDOWS, TRENDING_EPISODES
from topology.topics.ingest import EPISODE_METADATA

PUBLISH_EVERY_S = 2.0
LINGER_S = 0.5
MAX_BATCH = 128
"""Messages of thousands of rows: what is folded without a pause."""


def register(context: Context) -> None:
    """Declare the stage's handlers."""
    TrendingRanker(context)


class TrendingRanker:
    """The stage's handlers on one context."""

    def __init__(self, context: Context):
        self._context = context
        lateness_s = context.settings.allowed_lateness_s
        self._states = context.states(TRENDING, lambda _: TrendingState(lateness_s))
        self._scopes = TrendingScopes()
        self._boards: dict[int, Board] = {}
        context.on_rebalance(self._boards.clear)
        context.broadcast(EPISODE_METADATA, self._handle_episode_metadata)
        context.agent(ENGAGEMENT_WINDOWS, max_batch=MAX_BATCH, linger_s=LINGER_S)(
            self._handle_engagement_windows
        )
        context.timer(PUBLISH_EVERY_S)(self._publish_rankings)

    def _handle_episode_metadata(self, messages: Sequence[Message]) -> None:
        for episode_id, episode in keyed_records(self._context, messages):
            if episode is None:
                self._scopes.drop(episode_id)
            else:
                self._scopes.put(episode_id, episode["categories"], episode["language"])

    async def _handle_engagement_windows(self, messages: list[Message]) -> None:
        for partition, batch in (await decode_partitions(self._context, messages)).items():
            windows = [WindowMessage(m.offset, m.timestamp_ms, rows) for m, rows in batch]
            # Not all partitions in one go: others want to run in between.
            await self._context.clock.sleep(0)
            state = await self._states.get(partition)
            self._board(partition, state)
            if state.fold(windows):
                await self._states.save(partition)

    async def _publish_rankings(self) -> None:
        for partition, state in self._states.owned().items():
            await self._context.clock.sleep(0)
            at = datetime.fromtimestamp(state.at * MINUTE_MS / 1000, UTC)
            for scope, places in self._board(partition, state).changes():
                record = {
                    "scope": scope,
                    "source_partition": partition,
                    "at": at,
                    "episodes": places,
                }
                await self._context.send(TRENDING_EPISODES, record, key=f"{scope}|{partition}")

    def _board(self, partition: int, state: TrendingState) -> Board:
        """The rankings of a partition; it sees a state before rows are added."""
        if partition not in self._boards or self._boards[partition].state is not state:
            self._boards[partition] = Board(self._scopes, state)
        return self._boards[partition]
