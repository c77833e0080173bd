"""Follows feeds and finds new, edited and withdrawn episodes, which it announces on `episode-ids`.

Which feeds are followed is said on `feeds`; whoever owns a feed's partition polls it. Where each
feed was left is kept in a table, and moves on only once what was found is in the log: after kill
-9 a ref may be there twice, but none is missing, and nothing that has not changed is fetched anew.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from schemas.codec import BadRecordError, RecordCodec
from streams.http.rate_limits import report_hosts
from streams.ingest.core import following
from streams.ingest.core.following import Followed
from streams.ingest.core.subscriptions import Subscription, problem_of
from streams.ingest.poll_scheduler import FeedKey, PollScheduler
from streams.ingest.sources.base import (
    FeedGoneError,
    Ref,
    Source,
    SourceError,
    UnavailableSourceError,
)
from streams.ingest.sources.configured import configured_sources
from streams.kafka.message import Message
from streams.runtime.context import Context
from streams.state.protocols import StateTable

log = logging.getLogger(__name__)

TICK_S = 1.0


def now() -> float:
    """Unix seconds."""
    return time.time()


class Schedule:
    """The `cursors` table, and in memory when each feed of a source is due."""

    def __init__(self, table: StateTable, source_of: Callable[[Followed], str]) -> None:
        self._table = table
        self._source_of = source_of
        self._due: dict[int, dict[str, tuple[float, str]]] = {}
        self._had: set[int] = set()
        """Partitions that were this worker's before, since it started."""

    def forget(self) -> None:
        """What is in memory may be another worker's now."""
        self._due.clear()

    def get(self, place: FeedKey) -> Followed | None:
        value = self._table.get(place[0], place[1].encode())
        return following.decode(value) if value is not None else None

    def put(self, place: FeedKey, followed: Followed) -> None:
        partition, url = place
        self._table.put(partition, url.encode(), following.encode(followed))
        if partition in self._due:
            self._note(partition, url, followed)

    def delete(self, place: FeedKey) -> None:
        partition, url = place
        self._table.delete(partition, url.encode())
        self._due.get(partition, {}).pop(url, None)

    def owns(self, place: FeedKey) -> bool:
        return place[0] in self._table.partitions()

    def due(self, source: str, at: float) -> list[FeedKey]:
        """The feeds of a source that are due, the longest waiting first."""
        for partition in self._table.partitions() - self._due.keys():
            self._due[partition] = {}
            for key, value in self._table.items(partition):
                url, followed = key.decode(), following.decode(value)
                if partition not in self._had:
                    soon = following.due_at_start(followed, url=url, now=now())
                    followed = replace(followed, next_poll_at=soon)
                self._note(partition, url, followed)
            self._had.add(partition)
        found = sorted(
            (next_poll_at, partition, url)
            for partition, feeds in self._due.items()
            for url, (next_poll_at, name) in feeds.items()
            if next_poll_at <= at and name == source
        )
        return [(partition, url) for _, partition, url in found]

    def _note(self, partition: int, url: str, followed: Followed) -> None:
        if followed.gone:
            self._due[partition].pop(url, None)
        else:
            self._due[partition][url] = (followed.next_poll_at, self._source_of(followed))


def register(context: Context) -> None:
    """Take subscriptions as they come, and every second poll the feeds that are due."""
    report_hosts(context)
    sources = configured_sources(context.settings)
    subscriptions = RecordCodec("feeds", "feed_subscription", context.registry)

    def source_of(followed: Followed) -> str:
        source: str = subscriptions.decode(followed.subscription)["source"]
        return source

    schedule = Schedule(context.table("cursors"), source_of)
    context.on_rebalance(schedule.forget)

    @context.agent("feeds")
    async def handle_feeds(messages: list[Message]) -> None:
        for message in messages:
            place = message.partition, (message.key or b"").decode("utf-8", "replace")
            if message.value is None:
                schedule.delete(place)
                continue
            try:
                record = context.decode(message)
                if problem := problem_of(record, place[1]):
                    raise BadRecordError(problem)
            except BadRecordError as error:
                await context.dead_letter(message, error)
                continue
            if record["source"] not in sources:
                log.warning("%s waits: %s is not configured", place[1], record["source"])
            before = schedule.get(place)
            schedule.put(place, following.subscribed(before, message.value, message.offset))

    poller = Poller(context, schedule, subscriptions)
    for source in sources.values():
        # One timer each: an index that is slow or down delays no feed.
        context.timer(TICK_S)(partial(poller.poll_due, source))


class Poller:
    """Polls feeds and announces what has changed in them."""

    def __init__(self, context: Context, schedule: Schedule, subscriptions: RecordCodec) -> None:
        self._context = context
        self._schedule = schedule
        self._subscriptions = subscriptions
        self._episodes = RecordCodec("episode-metadata", "episode", context.registry)
        self._polls: dict[str, PollScheduler] = {}
        """By the name of the source."""

    async def poll_due(self, source: Source) -> None:
        """Begin to poll the feeds of a source that are due; what is slow goes on meanwhile."""
        if source.name not in self._polls:
            self._polls[source.name] = PollScheduler(partial(self._poll, source), source.close)
        await self._polls[source.name].go_on(lambda: self._schedule.due(source.name, now()))

    async def _poll(self, source: Source, place: FeedKey) -> None:
        before = self._schedule.get(place)
        if before is None:
            return  # unsubscribed a moment ago
        subscription: Subscription = self._subscriptions.decode(before.subscription)
        interval_s = subscription["interval_s"] or self._context.settings.discover_interval_s
        cursor, gone = before.cursor, False
        failure: SourceError | None = None
        try:
            async for found in source.poll(subscription, cursor):
                await self._announce(found.refs, place)
                cursor = found.cursor
                if found.refs:
                    self._keep(place, before, replace(before, cursor=cursor))
        except FeedGoneError as error:
            log.warning("%s: gone for good, not polled any more: %s", place[1], error)
            gone = True
        except SourceError as error:
            log.warning("%s: the poll failed, next try in time: %s", place[1], error)
            failure = error
        if isinstance(failure, UnavailableSourceError) and not failure.asked:
            until = now() + (failure.after_s or 0.0)
            after = following.put_off(
                before, cursor, url=place[1], until=until, interval_s=interval_s
            )
        else:
            after = following.polled(
                before,
                cursor,
                url=place[1],
                now=now(),
                interval_s=interval_s,
                failed=failure is not None,
                transient=isinstance(failure, UnavailableSourceError),
            )
        self._keep(place, before, replace(after, gone=gone))

    def _keep(self, place: FeedKey, before: Followed, after: Followed) -> None:
        """Put the state after a poll, unless the feed is no longer ours or followed.

        Of one that was subscribed to anew in the meantime only the cursor counts.
        """
        current = self._schedule.get(place) if self._schedule.owns(place) else None
        if current is None:
            return
        if current.revision != before.revision:
            after = replace(current, cursor=after.cursor)
        self._schedule.put(place, after)

    async def _announce(self, refs: list[Ref], place: FeedKey) -> None:
        """Have the refs in the log."""
        for ref in refs:
            record: Mapping[str, Any] | None = ref.get("record")
            encoded = self._episodes.encode(dict(record)) if record is not None else None
            value = ref | {"record": encoded}
            await self._context.send("episode-ids", value, key=ref["episode_id"])
        if refs:
            await self._context.flush()
            kinds = Counter("withdrawn" if r.get("withdrawn") else r["found_by"] for r in refs)
            log.info("%s: %s", place[1], ", ".join(f"{n} {kind}" for kind, n in kinds.items()))
