"""Follows feeds and finds new, edited and withdrawn episodes, which it announces on `episode-ids`.

Comes in: on `feeds`, which feeds are followed; whoever owns a feed's partition polls it. Goes out:
a ref for each episode that has changed. A subscription that cannot be used is a dead letter; a
poll that fails is made again later, at growing intervals, and a feed that is gone for good is not
polled any more.

Where each feed was left is kept in a table, and moves on only once what was found is in the log:
after kill -9 a ref may be there twice, but none is missing, and nothing that has not changed is
fetched anew.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from schemas.codec import BadRecordError, RecordCodec
from streams.http.host_reports import report_hosts
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
from streams.runtime.clock import Clock
from streams.runtime.context import Context
from streams.state.keyed_table import StateTable
from topology.tables import CURSORS
from topology.topics.ingest import EPISODE_IDS, EPISODE_METADATA, FEEDS

log = logging.getLogger(__name__)

TICK_S = 1.0


def register(context: Context) -> None:
    """Take subscriptions as they come, and every second poll the feeds that are due."""
    report_hosts(context)
    stage = DiscoverEpisodes(context)
    context.agent(FEEDS)(stage.handle_feeds)
    for source in stage.sources.values():
        # One timer each: an index that is slow or down delays no feed.
        context.timer(TICK_S)(partial(stage.poll_due, source))


class DiscoverEpisodes:
    """The stage: its handler of subscriptions, and its timers, which poll what is due."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock = context.clock
        self.sources = configured_sources(context.settings, context.clock)
        """By name."""
        self._subscriptions = RecordCodec(FEEDS.name, "feed_subscription", context.registry)
        self._episodes = RecordCodec(EPISODE_METADATA.name, "episode", context.registry)
        self._schedule = FeedSchedule(context.table(CURSORS), self._source_of, context.clock)
        context.on_rebalance(self._schedule.forget)
        self._polls = {
            source.name: PollScheduler(partial(self.poll, source), source.close, context.clock)
            for source in self.sources.values()
        }

    async def handle_feeds(self, messages: list[Message]) -> None:
        """Follow the feeds that are subscribed to, and no longer those whose key has no value."""
        for message in messages:
            feed = message.partition, (message.key or b"").decode("utf-8", "replace")
            if message.value is None:
                self._schedule.delete(feed)
                continue
            try:
                record = self._context.decode(message)
                if problem := problem_of(record, feed[1]):
                    raise BadRecordError(problem)
            except BadRecordError as error:
                await self._context.dead_letter(message, error)
                continue
            if record["source"] not in self.sources:
                log.warning("%s waits: %s is not configured", feed[1], record["source"])
            before = self._schedule.get(feed)
            self._schedule.put(feed, following.subscribed(before, message.value, message.offset))

    async def poll_due(self, source: Source) -> None:
        """Begin to poll the feeds of a source that are due; what is slow goes on meanwhile."""
        await self._polls[source.name].go_on(lambda: self._schedule.due(source.name))

    async def poll(self, source: Source, feed: FeedKey) -> None:
        """Poll one feed: announce what has changed, and keep where it was left."""
        before = self._schedule.get(feed)
        if before is None:
            return  # unsubscribed a moment ago
        subscription: Subscription = self._subscriptions.decode(before.subscription)
        cursor, gone = before.cursor, False
        failure: SourceError | None = None
        try:
            async for found in source.poll(subscription, cursor):
                await self._announce(found.refs, feed)
                cursor = found.cursor
                if found.refs:
                    self._keep(feed, before, replace(before, cursor=cursor))
        except FeedGoneError as error:
            log.warning("%s: gone for good, not polled any more: %s", feed[1], error)
            gone = True
        except SourceError as error:
            log.warning("%s: the poll failed, next try in time: %s", feed[1], error)
            failure = error
        interval_s = subscription["interval_s"] or self._context.settings.discover_interval_s
        after = self._after(replace(before, cursor=cursor), feed[1], interval_s, failure)
        self._keep(feed, before, replace(after, gone=gone))
        # Other polls go on: what was announced must not wait for their end to be remembered.
        await self._context.flush()

    def _after(
        self, followed: Followed, url: str, interval_s: float, failure: SourceError | None
    ) -> Followed:
        """The state of a feed after a poll has ended, and how it failed if it did."""
        now = self._clock.now()
        unavailable = failure if isinstance(failure, UnavailableSourceError) else None
        if unavailable is not None and not unavailable.asked:
            until = now + (unavailable.after_s or 0.0)
            return following.put_off(
                followed, followed.cursor, url=url, until=until, interval_s=interval_s
            )
        return following.polled(
            followed,
            followed.cursor,
            url=url,
            now=now,
            interval_s=interval_s,
            failed=failure is not None,
            transient=unavailable is not None,
        )

    def _keep(self, feed: FeedKey, before: Followed, after: Followed) -> None:
        """Put the state after a poll, unless the feed is no longer ours or followed.

        Of one that was subscribed to anew in the meantime only the cursor counts.
        """
        current = self._schedule.get(feed) if self._schedule.owns(feed) else None
        if current is None:
            return
        if current.revision != before.revision:
            after = replace(current, cursor=after.cursor)
        self._schedule.put(feed, after)

    async def _announce(self, refs: list[Ref], feed: FeedKey) -> None:
        """Have the refs in the log."""
        for ref in refs:
            record: Mapping[str, Any] | None = ref.get("record")
            encoded = self._episodes.encode(dict(record)) if record is not None else None
            value = ref | {"record": encoded}
            await self._context.send(EPISODE_IDS, value, key=ref["episode_id"])
        if refs:
            await self._context.flush()
            kinds = Counter("withdrawn" if r.get("withdrawn") else r["found_by"] for r in refs)
            log.info("%s: %s", feed[1], ", ".join(f"{n} {kind}" for kind, n in kinds.items()))

    def _source_of(self, followed: Followed) -> str:
        source: str = self._subscriptions.decode(followed.subscription)["source"]
        return source


class FeedSchedule:
    """The `cursors` table, and in memory when each feed of a source is due."""

    def __init__(
        self, table: StateTable, source_of: Callable[[Followed], str], clock: Clock
    ) -> None:
        self._table = table
        self._source_of = source_of
        self._clock = clock
        self._due: dict[int, dict[str, tuple[float, str]]] = {}
        """By partition and URL: when a feed is due, in Unix seconds, and of which source it is."""
        self._had: set[int] = set()
        """Partitions that were this worker's before, since it started."""

    def forget(self) -> None:
        """Drop what is in memory: partitions have moved."""
        self._due.clear()

    def get(self, feed: FeedKey) -> Followed | None:
        """What is kept of a feed; None if it is not followed."""
        value = self._table.get(feed[0], feed[1].encode())
        return following.decode(value) if value is not None else None

    def put(self, feed: FeedKey, followed: Followed) -> None:
        """Keep what is known of a feed now."""
        partition, url = feed
        self._table.put(partition, url.encode(), following.encode(followed))
        if partition in self._due:
            self._note(partition, url, followed)

    def delete(self, feed: FeedKey) -> None:
        """Follow a feed no longer."""
        partition, url = feed
        self._table.delete(partition, url.encode())
        self._due.get(partition, {}).pop(url, None)

    def owns(self, feed: FeedKey) -> bool:
        """Whether the feed's partition is this worker's."""
        return feed[0] in self._table.partitions()

    def due(self, source: str) -> list[FeedKey]:
        """The feeds of a source that are due now, the longest waiting first."""
        now = self._clock.now()
        for partition in self._table.partitions() - self._due.keys():
            self._load(partition, now)
        found = sorted(
            (next_poll_at, partition, url)
            for partition, feeds in self._due.items()
            for url, (next_poll_at, name) in feeds.items()
            if next_poll_at <= now and name == source
        )
        return [(partition, url) for _, partition, url in found]

    def _load(self, partition: int, now: float) -> None:
        """Read from the table when the feeds of a partition are due."""
        self._due[partition] = {}
        for key, value in self._table.items(partition):
            url, followed = key.decode(), following.decode(value)
            if partition not in self._had:
                soon = following.due_at_start(followed, url=url, now=now)
                followed = replace(followed, next_poll_at=soon)
            self._note(partition, url, followed)
        self._had.add(partition)

    def _note(self, partition: int, url: str, followed: Followed) -> None:
        if followed.gone:
            self._due[partition].pop(url, None)
        else:
            self._due[partition][url] = (followed.next_poll_at, self._source_of(followed))
