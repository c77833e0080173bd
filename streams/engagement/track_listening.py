"""Works out who heard how much of what, per day; sessions and streaks of listeners.

For `user-episode-daily`, every input batch becomes one output message with the same source
offsets, never several batches one message: after a restart the very same messages go out again,
and readers skip them by their offsets. Sessions that one event closes are in one message, and go
out in the order of these events; so after a restart, rows up to the highest offset that a reader
knew before a message are repeats, and no others. Streaks are absolute: the newest row counts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from streams.engagement.core.listening import above, added_by_each
from streams.engagement.core.listening_state import Listening
from streams.engagement.core.progress import progress_record
from streams.events.core.event_rows import READ, event_rows_each
from streams.kafka.message import Message
from streams.runtime.context import Context, decode_partitions

DAILY, SESSIONS, STREAKS, PROGRESS = range(4)
"""The produced topics, in the order of the topology."""

LINGER_S = 0.5
"""Nobody waits for daily amounts: fewer, larger pieces leave the time to the windows."""

MAX_BATCH = 128
GIVE_WAY_AFTER = 10
"""Messages sent, a millisecond or two."""

PROGRESS_EVERY_S = 2.0
MESSAGE_ROWS = 50_000


def register(context: Context) -> None:
    (source,), topics = context.stage.consumes, context.stage.produces
    lateness_ms = context.settings.allowed_lateness_s * 1000
    states = context.states("listening_state", lambda number: Listening(number, lateness_ms))
    published: dict[int, int] = {}
    context.on_rebalance(published.clear)

    @context.agent(source, max_batch=MAX_BATCH, linger_s=LINGER_S)
    async def handle_user_event_batches(messages: list[Message]) -> None:
        arrived = await decode_partitions(context, messages, READ)
        batches = {p: [events for _, events in batch] for p, batch in arrived.items()}
        held = {partition: await states.get(partition) for partition in batches}
        fresh: list[tuple[int, pl.DataFrame]] = []
        for partition, state in held.items():
            applied = state.applied
            for events in batches[partition]:
                if (new := above(events, applied)).height:
                    fresh.append((partition, new))
                    applied = int(new["offset"][-1])
        # Windows, which somebody waits for, are counted on the same event loop: give way often.
        await context.clock.sleep(0)
        daily = added_by_each([events for _, events in fresh])
        await context.clock.sleep(0)
        for place, ((partition, _), rows) in enumerate(zip(fresh, daily, strict=True)):
            await context.send(topics[DAILY], rows, partition=partition)
            if place % GIVE_WAY_AFTER == 0:
                await context.clock.sleep(0)
        rows_each = event_rows_each([(batches[p], state.applied) for p, state in held.items()])
        for (partition, state), taken in zip(held.items(), rows_each, strict=True):
            if len(taken):
                news = state.apply(taken)
                for rows in messages_of(news.sessions):
                    await context.send(topics[SESSIONS], rows, partition=partition)
                for rows in news.streaks.iter_slices(MESSAGE_ROWS):
                    await context.send(topics[STREAKS], rows, partition=partition)
            await context.clock.sleep(0)
        # State that is ahead of the output would lose what was not sent before a kill.
        await context.flush()
        for partition in batches:
            await states.save(partition)

    @context.timer(PROGRESS_EVERY_S)
    async def tell_progress() -> None:
        stage = context.stage.name
        for partition, state in states.owned().items():
            if state.applied == published.get(partition, -1):
                continue
            published[partition] = state.applied
            record = progress_record(stage, partition, state)
            await context.send(topics[PROGRESS], record, key=f"{stage}|{partition}")


def messages_of(sessions: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Sessions in messages of moderate size, those of one offset in one message."""
    offsets = sessions["offset"].to_numpy()
    ends = np.append(np.flatnonzero(np.diff(offsets)) + 1, len(offsets))
    start = 0
    while start < len(offsets):
        # The last end within the size, or the first one if a single offset has more rows.
        place = np.searchsorted(ends, start + MESSAGE_ROWS, side="right") - 1
        end = int(ends[max(place, np.searchsorted(ends, start, side="right"))])
        yield sessions[start:end]
        start = end
