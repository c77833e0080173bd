"""Works out who heard how much of what, per day; sessions and streaks of listeners.

In: `user-event-batches`. Out: `user-episode-daily`, `listening-sessions`, `listening-streaks` and
`table-progress`, by source partition.

For `user-episode-daily`, every input batch becomes one output message with the same source
offsets, never several batches one message: after a restart the very same messages go out again,
and readers skip them by their offsets. Sessions that one event closes are in one message, and go
out in the order of these events; so after a restart, rows up to the highest offset that a reader
knew before a message are repeats, and no others. Streaks are absolute: the newest row counts.

Of a listener who is forgotten, the open session and the streak are dropped and told no more.

Bad input: a message without rows is dead-lettered; late events do not count in sessions or streaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from streams.engagement.core.listening import above, added_by_each
from streams.engagement.core.listening_state import Listening
from streams.engagement.core.progress import progress_record
from streams.engagement.forgetting import forget_listeners
from streams.events.core.event_rows import READ, event_rows_each
from streams.kafka.forgetting import stretches
from streams.kafka.message import Message
from streams.runtime.context import Context, decode_partitions
from topology.tables import LISTENING_STATE
from topology.topics.engagement import (
    LISTENING_SESSIONS,
    LISTENING_STREAKS,
    TABLE_PROGRESS,
    USER_EPISODE_DAILY,
)
from topology.topics.events import USER_EVENT_BATCHES

LINGER_S = 0.5
"""Nobody waits for daily amounts: fewer, larger pieces leave the time to the windows."""

MAX_BATCH = 128
GIVE_WAY_AFTER = 10
"""Messages sent, a millisecond or two."""

PROGRESS_EVERY_S = 2.0
MESSAGE_ROWS = 50_000

Batches = Mapping[int, Sequence[pl.DataFrame]]
"""Source partition -> its batches of events, in the order of the log."""


def register(context: Context) -> None:
    """Declare the stage's handlers."""
    ListeningTracker(context)


class ListeningTracker:
    """The stage's handlers on one context."""

    def __init__(self, context: Context):
        self._context = context
        lateness_ms = context.settings.allowed_lateness_s * 1000
        self._states = context.states(LISTENING_STATE, lambda n: Listening(n, lateness_ms))
        self._published: dict[int, int] = {}
        context.on_rebalance(self._published.clear)
        context.agent(USER_EVENT_BATCHES, max_batch=MAX_BATCH, linger_s=LINGER_S)(
            self._handle_user_event_batches
        )
        context.timer(PROGRESS_EVERY_S)(self._publish_progress)

    async def _handle_user_event_batches(self, messages: list[Message]) -> None:
        for stretch in stretches(messages):
            await self._count(stretch.messages)
            await forget_listeners(self._states, stretch.forgotten)

    async def _count(self, messages: list[Message]) -> None:
        arrived = await decode_partitions(self._context, messages, READ)
        batches = {p: [events for _, events in batch] for p, batch in arrived.items()}
        states = {partition: await self._states.get(partition) for partition in batches}
        await self._send_daily(batches, states)
        await self._send_sessions_and_streaks(batches, states)
        # State that is ahead of the output would lose what was not sent before a kill.
        await self._context.flush()
        for partition in batches:
            await self._states.save(partition)

    async def _send_daily(self, batches: Batches, states: Mapping[int, Listening]) -> None:
        # Windows, which somebody waits for, are counted on the same event loop: give way often.
        give_way = self._context.clock.sleep
        fresh: list[tuple[int, pl.DataFrame]] = []
        for partition, state in states.items():
            applied = state.applied
            for events in batches[partition]:
                if (new := above(events, applied)).height:
                    fresh.append((partition, new))
                    applied = int(new["offset"][-1])
        await give_way(0)
        daily = added_by_each([events for _, events in fresh])
        await give_way(0)
        for place, ((partition, _), rows) in enumerate(zip(fresh, daily, strict=True)):
            await self._context.send(USER_EPISODE_DAILY, rows, partition=partition)
            if place % GIVE_WAY_AFTER == 0:
                await give_way(0)

    async def _send_sessions_and_streaks(
        self, batches: Batches, states: Mapping[int, Listening]
    ) -> None:
        """Apply the events to the states, and send what comes of it."""
        rows_each = event_rows_each([(batches[p], s.applied) for p, s in states.items()])
        for (partition, state), taken in zip(states.items(), rows_each, strict=True):
            if len(taken):
                made = state.apply(taken)
                for rows in session_messages(made.sessions):
                    await self._context.send(LISTENING_SESSIONS, rows, partition=partition)
                for rows in made.streaks.iter_slices(MESSAGE_ROWS):
                    await self._context.send(LISTENING_STREAKS, rows, partition=partition)
            await self._context.clock.sleep(0)

    async def _publish_progress(self) -> None:
        stage = self._context.stage.name
        for partition, state in self._states.owned().items():
            if state.applied == self._published.get(partition, -1):
                continue
            self._published[partition] = state.applied
            record = progress_record(stage, partition, state)
            await self._context.send(TABLE_PROGRESS, record, key=f"{stage}|{partition}")


def session_messages(sessions: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows of `listening_session` by message, in order: about MESSAGE_ROWS, whole offsets."""
    offsets = sessions["offset"].to_numpy()
    ends = np.append(np.flatnonzero(np.diff(offsets)) + 1, len(offsets))
    start = 0
    while start < len(offsets):
        # The last end within the size, or the first one if a single offset has more rows.
        place = np.searchsorted(ends, start + MESSAGE_ROWS, side="right") - 1
        end = int(ends[max(place, np.searchsorted(ends, start, side="right"))])
        yield sessions[start:end]
        start = end
