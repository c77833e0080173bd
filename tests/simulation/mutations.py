"""Known faults, put back into the modules of production one at a time: each must be seen.

A mutation leaves out one thing that keeps effects from being lost or made twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from confluent_kafka import TopicPartition

from streams.engagement import detect_anomalies, track_engagement, track_listening
from streams.engagement.core import anomaly_state
from streams.engagement.core.anomaly_state import AnomalyState
from streams.engagement.core.engagement import Engagement
from streams.engagement.core.sessions import Sessions
from streams.engagement.core.windows import Targets
from streams.events import batch_events
from streams.events.core.batching import PartitionBatcher
from streams.events.core.event_rows import event_rows_each
from streams.events.core.origins import Tally
from streams.events.core.sequencing import CLOCK_SKEW_MS, Flush, Sequencer, resume
from streams.runtime.context import Context, decode_partitions
from streams.state import kafka_log, store
from streams.state.log import StateFold, snapshot
from streams.state.store import LogStates

Made = tuple[Any, str, Any]
"""Whose attribute of which name becomes what."""


def acknowledge_before_flush() -> Made:
    async def handle(self: Any, handler: Any, messages: Any) -> None:
        partitions = {message.partition for message in messages}
        for table in self._tables.values():
            await table.restore(partitions)
        await handler(messages)

    return Context, "_handle", handle


def forget_the_fence() -> Made:
    async def arrive(self: Any, partition: int, expected: int, delivery: Any) -> None:
        await delivery

    return LogStates, "_arrive", arrive


def drop_the_last_piece_of_a_snapshot() -> Made:
    def shorter(pieces: Sequence[bytes], *more: Any) -> Any:
        return snapshot(pieces[:-1] or pieces, *more)

    return store, "snapshot", shorter


def restore_without_what_followed_the_snapshot() -> Made:
    take = StateFold._take

    def only_snapshots(self: Any, entry: Any, first: int) -> None:
        if entry.kind == "snapshot" or not self.base:
            take(self, entry, first)

    return StateFold, "_take", only_snapshots


def count_what_a_fenced_worker_wrote() -> Made:
    return StateFold, "_counts", lambda self, entry: True


def truncate_before_the_snapshot_has_arrived() -> Made:
    later = LogStates._truncate_later

    def now(self: Any, partition: int, offset: int, after: Any = None) -> None:
        later(self, partition, offset)

    return LogStates, "_truncate_later", now


def forget_that_a_record_was_refused() -> Made:
    async def flush(self: Any) -> None:
        for table in self._tables.values():
            await table.save()
        if self._pending:
            await asyncio.wait(self._pending)
            self._pending.clear()

    return Context, "flush", flush


def append_on_after_a_failure() -> Made:
    return kafka_log, "APPENDING", {}


def save_before_what_was_sent_has_arrived() -> Made:
    async def handle(self: Any, messages: Any) -> None:
        arrived = await decode_partitions(self._context, messages)
        batches = {p: [events for _, events in batch] for p, batch in arrived.items()}
        states = {partition: await self._states.get(partition) for partition in batches}
        await self._send_daily(batches, states)
        await self._send_sessions_and_streaks(batches, states)
        for partition in batches:
            await self._states.save(partition)

    return track_listening.ListeningTracker, "_handle_user_event_batches", handle


def drop_what_is_over_before_it_has_arrived() -> Made:
    count = track_engagement.EngagementTracker._count_partition

    async def unaware(self: Any, *args: Any) -> Any:
        changed, targets, _ = await count(self, *args)
        return changed, targets, False

    return track_engagement.EngagementTracker, "_count_partition", unaware


def send_nothing_again_after_a_restore() -> Made:
    load = Engagement.load_changes

    def quietly(self: Any, value: bytes) -> None:
        load(self, value)
        self.restored = False

    return Engagement, "load_changes", quietly


def count_again_what_was_applied() -> Made:
    def all_rows(batches: Any) -> Any:
        return event_rows_each([(frames, -1) for frames, _ in batches])

    return track_engagement, "event_rows_each", all_rows


def ask_for_the_end_before_the_last_batch() -> Made:

    class Earlier:
        """Logs whose source ended when they were asked first."""

        def __init__(self, logs: Any, source: str, partition: int) -> None:
            self._logs, self._source = logs, source
            self._bounds = logs.bounds(source, partition)

        def bounds(self, topic: str, partition: int) -> Any:
            return self._bounds if topic == self._source else self._logs.bounds(topic, partition)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._logs, name)

    def too_early(logs: Any, topics: Any, partition: int, *more: Any) -> Any:
        return resume(Earlier(logs, topics.source, partition), topics, partition, *more)

    return batch_events, "resume", too_early


def forget_the_ids_before_a_restart() -> Made:
    return PartitionBatcher, "warm", lambda self, chunk: None


def count_again_what_was_handed_over_twice() -> Made:
    again = Tally.again

    def never(self: Any, headers: Any, source: Any) -> bool:
        again(self, headers, source)
        return False

    return Tally, "again", never


def account_before_the_hand_over_has_arrived() -> Made:
    steps = Sequencer.steps

    def without_flush(self: Any, records: Any) -> Iterator[Any]:
        return (step for step in steps(self, records) if not isinstance(step, Flush))

    return Sequencer, "steps", without_flush


def batch_on_after_a_failure() -> Made:
    return batch_events.BatchEvents, "_raise_failure", lambda self: None


def count_what_was_to_be_forgotten() -> Made:
    return PartitionBatcher, "_without_forgotten", lambda self, events: (events, 0)


def forget_without_a_snapshot() -> Made:
    save = LogStates.save

    async def changes_only(self: Any, partition: int, *, whole: bool = False) -> None:
        await save(self, partition)

    return LogStates, "save", changes_only


def keep_the_open_session_of_who_is_forgotten() -> Made:
    return Sessions, "drop_user", lambda self, user: None


def judge_before_every_partition_is_over() -> Made:
    def end(self: Any) -> int:
        own = slice(self._partitions)
        return int(np.maximum(self._done[own], self._idle[own]).max())

    return AnomalyState, "_end", end


def take_who_is_quiet_for_idle_too_early() -> Made:
    return anomaly_state, "IDLE_BINS", 12


def judge_without_what_the_idle_had_said() -> Made:
    settle = AnomalyState._settle
    return AnomalyState, "_settle", lambda self, end: settle(self, 0)


def judge_again_after_a_restore() -> Made:
    return AnomalyState, "FIGURES", ("applied",)


def save_before_an_anomaly_has_arrived() -> Made:
    handle = detect_anomalies.AnomalyDetector._handle_engagement_windows

    class Hasty:
        """A context that waits for nothing."""

        def __init__(self, context: Any) -> None:
            self._context = context

        async def flush(self) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            return getattr(self._context, name)

    async def hastily(self: Any, messages: Any) -> None:
        context, self._context = self._context, Hasty(self._context)
        try:
            await handle(self, messages)
        finally:
            self._context = context

    return detect_anomalies.AnomalyDetector, "_handle_engagement_windows", hastily


def tell_only_readers_that_get_rows() -> Made:
    return Targets, "all", lambda self: range(0)


def tell_the_time_of_what_comes_again() -> Made:
    def logged(batches: Any, states: Any) -> dict[int, int]:
        return {
            partition: int(events["logged_at"].to_physical()[-1])
            for partition, batch in batches.items()
            for _, events in batch
            if events.height
        }

    return track_engagement, "_logged", logged


def say_of_a_backlog_that_it_is_quiet() -> Made:
    module: Any = batch_events

    def tell(self: Any) -> None:
        now_s = module.time.time()
        for partition in self._quiet.due(module.time.monotonic()):
            self._do(self._sequencer.quiet(partition, int(now_s * 1000)), now_s)

    return batch_events.BatchEvents, "_tell_quiet", tell


def ask_for_the_time_after_the_end() -> Made:
    module: Any = batch_events

    def tell(self: Any) -> None:
        for partition in self._quiet.due(module.time.monotonic()):
            place = TopicPartition(self._source, partition)
            _, end = self._consumer.get_watermark_offsets(place, 1.0)
            if end <= self._sequencer.next_offset(partition):
                now_s = module.time.time()
                quiet_ms = int(now_s * 1000) - CLOCK_SKEW_MS
                self._do(self._sequencer.quiet(partition, quiet_ms), now_s)

    return batch_events.BatchEvents, "_tell_quiet", tell


MUTATIONS: tuple[Callable[[], Made], ...] = (
    acknowledge_before_flush,
    forget_the_fence,
    drop_the_last_piece_of_a_snapshot,
    restore_without_what_followed_the_snapshot,
    count_what_a_fenced_worker_wrote,
    truncate_before_the_snapshot_has_arrived,
    forget_that_a_record_was_refused,
    append_on_after_a_failure,
    save_before_what_was_sent_has_arrived,
    drop_what_is_over_before_it_has_arrived,
    send_nothing_again_after_a_restore,
    count_again_what_was_applied,
    ask_for_the_end_before_the_last_batch,
    forget_the_ids_before_a_restart,
    count_again_what_was_handed_over_twice,
    account_before_the_hand_over_has_arrived,
    batch_on_after_a_failure,
    count_what_was_to_be_forgotten,
    forget_without_a_snapshot,
    keep_the_open_session_of_who_is_forgotten,
    judge_before_every_partition_is_over,
    take_who_is_quiet_for_idle_too_early,
    judge_without_what_the_idle_had_said,
    judge_again_after_a_restore,
    save_before_an_anomaly_has_arrived,
    tell_only_readers_that_get_rows,
    tell_the_time_of_what_comes_again,
    say_of_a_backlog_that_it_is_quiet,
    ask_for_the_time_after_the_end,
)


@contextmanager
def mutated(mutation: Callable[[], Made]) -> Iterator[None]:
    """Have a fault in the code."""
    where, name, made = mutation()
    with mock.patch.object(where, name, made):
        yield
