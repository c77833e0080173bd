"""Counts what happens to each episode, show and category: minutes, windows, days, retention.

In: `user-event-batches`; broadcast: `episode-metadata`, for shows and categories. Out:
`engagement-windows` by episode, everything else by source partition: `engagement-totals`,
`engagement-history`, `rolling-windows`, `episode-days`, `episode-retention`, `audience-days`,
`late-events` and `table-progress`.

Each source partition keeps its own counts, which add up on read, so nothing is repartitioned in
order to be counted. Rows go out as the whole value so far. After a restart everything that is
still held goes out again: whether it had been sent, nobody knows. What is over is in the log
before the state that has dropped it.

Bad input: a message without rows is dead-lettered; events that are too late go to `late-events`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import numpy as np
import polars as pl

from schemas.units import MINUTE_MS
from streams.engagement.core.engagement import Engagement, time_of
from streams.engagement.core.episode_days import day_rows, retention_rows
from streams.engagement.core.progress import progress_record
from streams.engagement.core.reach import audience_rows
from streams.engagement.core.rolling import EpisodeScopes, Show, rolling_rows, scopes_of
from streams.engagement.core.totals import total_rows
from streams.engagement.core.watermark import watermark_header
from streams.engagement.core.windows import (
    Minutes,
    Targets,
    history_messages,
    late_rows,
    minutes_of,
    window_rows,
)
from streams.engagement.forgetting import forget_listeners
from streams.events.core.event_rows import READ, EventRows, event_rows_each
from streams.kafka.forgetting import stretches
from streams.kafka.message import Message
from streams.kafka.quiet import quiet_to
from streams.runtime.context import Context, decode_partitions, keyed_records
from topology.model import ArrowTopic
from topology.tables import ENGAGEMENT_STATE
from topology.topics.engagement import (
    AUDIENCE_DAYS,
    ENGAGEMENT_HISTORY,
    ENGAGEMENT_TOTALS,
    ENGAGEMENT_WINDOWS,
    EPISODE_DAYS,
    EPISODE_RETENTION,
    LATE_EVENTS,
    ROLLING_WINDOWS,
    TABLE_PROGRESS,
)
from topology.topics.events import USER_EVENT_BATCHES
from topology.topics.ingest import EPISODE_METADATA

LINGER_S = 0.01
"""Enough for what batch_events sent at once, one batch a partition, to arrive together."""

MAX_BATCH = 64
TOTALS_EVERY_S = 1.0
ROLLING_EVERY_S = 2.0
DAYS_EVERY_S = 10.0
PUBLISHER_LOOP_SHARE = 0.05
"""Largest share of the event loop's time for one publisher (rolling windows; days), which takes the
source partitions in turn and rests between them: with more to publish, it publishes less often."""

_MESSAGE_ROWS = 50_000
_AUDIENCE_ROWS = 5_000
"""Fewer, because each has a sketch of up to 2 KB."""

TopicRows = tuple[ArrowTopic, pl.DataFrame]
"""A topic, and the rows of one message to it."""


def register(context: Context) -> None:
    """Declare the stage's handlers."""
    EngagementTracker(context)


class EngagementTracker:
    """The stage's handlers on one context."""

    def __init__(self, context: Context):
        self._context = context
        lateness_ms = context.settings.allowed_lateness_s * 1000
        self._states = context.states(ENGAGEMENT_STATE, lambda _: Engagement(lateness_ms))
        self._targets = Targets(context.settings.event_partitions)
        self._shows: dict[str, Show] = {}
        self._catalogue_version = 0
        self._scopes: dict[int, tuple[tuple[int, int, int], EpisodeScopes]] = {}
        self._published: dict[int, tuple[int, int, int]] = {}
        self._told_watermarks: dict[int, int] = {}
        self._untold: dict[int, set[int]] = {}
        """Source partition -> minutes whose totals have changed since they were sent."""
        self._totals_sent: set[int] = set()
        """Source partitions of which all totals that are held have been sent at least once."""
        for forget in (
            self._scopes.clear,
            self._published.clear,
            self._told_watermarks.clear,
            self._totals_sent.clear,
            self._targets.forget,
        ):
            context.on_rebalance(forget)
        context.broadcast(EPISODE_METADATA, self._handle_episode_metadata)
        context.agent(USER_EVENT_BATCHES, max_batch=MAX_BATCH, linger_s=LINGER_S)(
            self._handle_user_event_batches
        )
        context.timer(TOTALS_EVERY_S)(self._publish_totals)
        context.timer(ROLLING_EVERY_S)(self._publish_rolling)
        context.timer(DAYS_EVERY_S)(self._publish_days)

    def _handle_episode_metadata(self, messages: Sequence[Message]) -> None:
        for episode_id, episode in keyed_records(self._context, messages):
            if episode is None:
                self._shows.pop(episode_id, None)
            else:
                categories = tuple(dict.fromkeys(episode["categories"]))
                self._shows[episode_id] = Show(episode["show_id"], categories)
        self._catalogue_version += 1

    # -- counting ------------------------------------------------------------------------------

    async def _handle_user_event_batches(self, messages: list[Message]) -> None:
        for stretch in stretches(messages):
            await self._count(stretch.messages)
            await forget_listeners(self._states, stretch.forgotten)

    async def _count(self, messages: list[Message]) -> None:
        batches = await decode_partitions(self._context, messages, READ)
        states = {partition: await self._states.get(partition) for partition in batches}
        rows = event_rows_each(
            [([e for _, e in batch], states[p].applied) for p, batch in batches.items()]
        )
        counted = [
            await self._count_partition(partition, states[partition], some, batches[partition])
            for partition, some in zip(batches, rows, strict=True)
        ]
        if counted:
            changed, targets, gone = zip(*counted, strict=True)
            closed = {partition: s.closed for partition, s in states.items() if s.events}
            await self._send_windows(
                window_rows(changed),
                np.concatenate(targets),
                closed,
                _logged(batches, states),
                _quiet(batches),
            )
            if any(gone):
                # State that no longer has what is not in the log would lose it at a kill.
                await self._context.flush()
        for partition in batches:
            await self._states.save(partition)

    async def _send_windows(
        self,
        rows: pl.DataFrame,
        targets: np.ndarray,
        closed: dict[int, int],
        logged_ms: dict[int, int],
        quiet_ms: dict[int, int],
    ) -> None:
        """Send rows to their targets, and tell all targets which minutes are over, and who is
        quiet."""
        headers = watermark_header(closed, logged_ms, quiet_ms)
        messages = dict(self._targets.split(rows, targets))
        if quiet_ms or any(
            self._told_watermarks.get(partition) != minute for partition, minute in closed.items()
        ):
            # Who gets no row must know that there is none to wait for.
            messages = {target: rows.clear() for target in self._targets.all()} | messages
        for target, some in messages.items():
            await self._context.send(ENGAGEMENT_WINDOWS, some, partition=target, headers=headers)
        self._told_watermarks |= closed

    async def _count_partition(
        self,
        partition: int,
        state: Engagement,
        rows: EventRows,
        batch: list[tuple[Message, pl.DataFrame]],
    ) -> tuple[Minutes, np.ndarray, bool]:
        """Count, hand out what is over, and give the minutes that have changed, their targets,
        and whether anything has left the state."""
        late = state.apply(rows) if len(rows) else np.zeros(0, bool)
        slots = np.arange(len(state.minutes)) if state.restored else state.minutes.changed()
        state.restored = False
        changed = minutes_of(state, partition, slots)
        targets = self._targets.of(state, partition, slots)
        touched = np.unique(time_of(state.minutes)[slots]).tolist()
        self._untold.setdefault(partition, set()).update(touched)
        if late.any():
            whole = [self._context.decode(message) for message, _ in batch]
            gone = late_rows(whole, rows.offsets[late])
            await self._context.send(LATE_EVENTS, gone, partition=partition)
        before = state.closed
        closed = state.close_minutes()
        # A day may be over by a minute in which nothing happened.
        if moved_on := state.closed > before:
            await self._hand_out(partition, state, closed)
        return changed, targets, moved_on or bool(late.any())

    async def _hand_out(self, partition: int, state: Engagement, closed: np.ndarray) -> None:
        """Send what nothing can change any more, and drop what nobody looks at any more."""
        history = window_rows([minutes_of(state, partition, closed)])
        days = state.days_over()
        finished = self._finished_days(partition, state, days) if days.size else []
        totals = self._final_totals(partition, state, closed)
        state.drop_days()
        state.drop_old()
        for rows in history_messages(history):
            await self._context.send(ENGAGEMENT_HISTORY, rows, partition=partition)
        await self._send_totals(partition, totals)
        await self._send_days(partition, finished)

    def _finished_days(
        self, partition: int, state: Engagement, days: np.ndarray
    ) -> list[TopicRows]:
        audience = audience_rows(state, partition, days, self._scopes_of(partition, state))
        messages = _day_messages(state, partition, days, final=True)
        return messages + [(AUDIENCE_DAYS, r) for r in audience.iter_slices(_AUDIENCE_ROWS)]

    # -- publishing ----------------------------------------------------------------------------

    async def _publish_totals(self) -> None:
        async for partition, state in self._each_in_turn():
            minutes = self._untold.pop(partition, set())
            if partition not in self._totals_sent:
                # Whoever counted before may have ended before it sent what it had counted, and
                # a quiet partition would stay short until its next event.
                minutes = set(np.unique(time_of(state.minutes)).tolist())
                self._totals_sent.add(partition)
            await self._send_totals(partition, total_rows(state, partition, minutes))

    def _final_totals(self, partition: int, state: Engagement, closed: np.ndarray) -> pl.DataFrame:
        """The totals of minutes that are over, whether or not they were sent before: when they
        have left the state, nobody can send them."""
        minutes = set(np.unique(time_of(state.minutes)[closed]).tolist())
        self._untold.get(partition, set()).difference_update(minutes)
        return total_rows(state, partition, minutes)

    async def _send_totals(self, partition: int, rows: pl.DataFrame) -> None:
        if rows.height:
            await self._context.send(ENGAGEMENT_TOTALS, rows, partition=partition)

    async def _publish_rolling(self) -> None:
        async for partition, state in self._each_in_turn():
            newest = max(other.watermark for other in self._states.owned().values())
            view = (state.applied, newest // MINUTE_MS, self._catalogue_version)
            if not state.events or self._published.get(partition) == view:
                continue
            rows = rolling_rows(state, partition, view[1], self._scopes_of(partition, state))
            await self._context.send(ROLLING_WINDOWS, rows, partition=partition)
            await self._send_progress(partition, state)
            self._published[partition] = view

    async def _each_in_turn(self) -> AsyncIterator[tuple[int, Engagement]]:
        """The states that are owned when it is their turn; rests in between."""
        clock = self._context.clock
        for partition in self._states.owned():
            if (state := self._states.owned().get(partition)) is not None:
                started = clock.monotonic()
                yield partition, state
                taken = clock.monotonic() - started
                await clock.sleep(taken * (1 / PUBLISHER_LOOP_SHARE - 1))

    def _scopes_of(self, partition: int, state: Engagement) -> EpisodeScopes:
        version = (self._catalogue_version, state.renumbered, len(state.episodes))
        if partition not in self._scopes or self._scopes[partition][0] != version:
            self._scopes[partition] = (version, scopes_of(state.episodes.all(), self._shows))
        return self._scopes[partition][1]

    async def _send_progress(self, partition: int, state: Engagement) -> None:
        stage = self._context.stage.name
        record = progress_record(stage, partition, state)
        await self._context.send(TABLE_PROGRESS, record, key=f"{stage}|{partition}")

    async def _publish_days(self) -> None:
        async for partition, state in self._each_in_turn():
            if state.active.any():
                messages = _day_messages(state, partition, state.days_over(), final=False)
                state.forget_active()
                await self._send_days(partition, messages)

    async def _send_days(self, partition: int, messages: list[TopicRows]) -> None:
        for topic, rows in messages:
            await self._context.send(topic, rows, partition=partition)


def _logged(
    batches: Mapping[int, Sequence[tuple[Message, pl.DataFrame]]], states: Mapping[int, Engagement]
) -> dict[int, int]:
    """By source partition, the log's time of the newest event that is counted, in milliseconds.

    What comes again, when more had been counted, cannot tell it.
    """
    logged = {}
    for partition, batch in batches.items():
        for _, events in batch:
            if events.height and events["offset"][-1] == states[partition].applied:
                logged[partition] = int(events["logged_at"].to_physical()[-1])
    return logged


def _quiet(batches: Mapping[int, Sequence[tuple[Message, pl.DataFrame]]]) -> dict[int, int]:
    """By source partition, up to when there is nothing more, in milliseconds; where it is told."""
    quiet = {}
    for partition, batch in batches.items():
        for message, _ in batch:
            if (told := quiet_to(message.headers)) is not None:
                quiet[partition] = told
    return quiet


def _day_messages(
    state: Engagement, partition: int, days: np.ndarray, *, final: bool
) -> list[TopicRows]:
    """Topic and rows of every message, made at once: the state may change between two sends."""
    frames = [(EPISODE_DAYS, day_rows(state, partition, days, final))]
    frames += [(EPISODE_RETENTION, r) for r in retention_rows(state, partition, days, final)]
    return [(topic, some) for topic, rows in frames for some in rows.iter_slices(_MESSAGE_ROWS)]
