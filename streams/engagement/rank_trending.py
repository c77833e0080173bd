"""Ranks episodes by new listeners, overall and per category and language.

Each partition ranks its own episodes; a reader merges the partitions with
`streams.engagement.core.trending.merge_scopes`. How scores are made is told in
`streams.engagement.core.trending`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from streams.engagement.core.trending import Board, TrendingScopes
from streams.engagement.core.trending_state import TrendingState
from streams.engagement.core.window_rows import WindowMessage
from streams.kafka.message import Message
from streams.runtime.context import Context, decode_partitions, keyed_records

PUBLISH_EVERY_S = 2.0
LINGER_S = 0.5
MAX_BATCH = 128
"""Messages of thousands of rows: what is folded without a pause."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def register(context: Context) -> None:
    (source,), (target,) = context.stage.consumes, context.stage.produces
    (episodes,) = context.stage.broadcast
    lateness_s = context.settings.allowed_lateness_s
    states = context.states("trending", lambda _: TrendingState(lateness_s))
    scopes = TrendingScopes()
    boards: dict[int, Board] = {}
    context.on_rebalance(boards.clear)

    def handle_episode_metadata(messages: Sequence[Message]) -> None:
        for episode_id, episode in keyed_records(context, messages):
            if episode is None:
                scopes.drop(episode_id)
            else:
                scopes.put(episode_id, episode["categories"], episode["language"])

    context.broadcast(episodes, handle_episode_metadata)

    def board(partition: int, state: TrendingState) -> Board:
        if partition not in boards or boards[partition].state is not state:
            boards[partition] = Board(scopes, state)
        return boards[partition]

    @context.agent(source, max_batch=MAX_BATCH, linger_s=LINGER_S)
    async def handle_engagement_windows(messages: list[Message]) -> None:
        for partition, batch in (await decode_partitions(context, messages)).items():
            group = [
                WindowMessage(message.offset, message.timestamp_ms, rows) for message, rows in batch
            ]
            # Not all partitions in one go: others want to run in between.
            await context.clock.sleep(0)
            state = await states.get(partition)
            board(partition, state)
            if state.fold(group):
                await states.save(partition)

    @context.timer(PUBLISH_EVERY_S)
    async def publish() -> None:
        for partition, state in states.owned().items():
            await context.clock.sleep(0)
            at = _EPOCH + timedelta(minutes=state.at)
            for scope, places in board(partition, state).changes():
                record = {
                    "scope": scope,
                    "source_partition": partition,
                    "at": at,
                    "episodes": places,
                }
                await context.send(target, record, key=f"{scope}|{partition}")
