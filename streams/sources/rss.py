"""Episodes from RSS and Atom feeds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from streams.core.episodes import RSS, EpisodeError, episode_from_rss, identifier, rss_ref
from streams.core.feeds import FeedError, parse_feed
from streams.fetcher import FetchError, GuardedFetcher
from streams.sources.base import Episode, Ref, SourceError

log = logging.getLogger(__name__)

EPISODES_A_FEED = 200


class RssSource:
    """`Source` on a list of feed URLs. Feeds are fetched whole each time: RSS has no other way."""

    name = RSS

    def __init__(self, fetcher: GuardedFetcher, feed_urls: Sequence[str]) -> None:
        self._fetcher = fetcher
        self._feed_urls = tuple(feed_urls)

    async def close(self) -> None:
        await self._fetcher.close()

    async def discover(self) -> AsyncIterator[list[Ref]]:
        """The newest episodes of each feed; a feed that fails is logged, and the next one read."""
        for url in self._feed_urls:
            try:
                feed = await self._read(url)
            except SourceError as error:
                log.warning("feed %s: %s", url, error)
                continue
            found_at = datetime.now(UTC)
            yield [rss_ref(url, guid, found_at) for guid in _entries(feed)]

    async def fetch(self, refs: Sequence[Mapping[str, Any]]) -> dict[str, Episode | SourceError]:
        """Each feed is read once for all its refs."""
        records: dict[str, Episode | SourceError] = {}
        for url in dict.fromkeys(ref["feed_id"] for ref in refs):
            wanted = [ref for ref in refs if ref["feed_id"] == url]
            try:
                feed = await self._read(url)
            except SourceError as error:
                records |= {ref["episode_id"]: error for ref in wanted}
                continue
            entries = _entries(feed)
            for ref in wanted:
                records[ref["episode_id"]] = _record(url, feed, entries.get(ref["source_id"]))
        return records

    async def _read(self, url: str) -> dict[str, Any]:
        try:
            fetched = await self._fetcher.get(url)
            # The feed's own URL, not the one redirects led to: ids must not change with the
            # publisher's host.
            return await asyncio.to_thread(parse_feed, url, fetched.body, EPISODES_A_FEED)
        except FetchError as error:
            raise SourceError(str(error)) from error
        except FeedError as error:
            raise SourceError(f"not a feed: {error}") from error


def _entries(feed: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """A feed's entries by guid; of those that share one, the newest."""
    entries: dict[str, Mapping[str, Any]] = {}
    for entry in feed["episodes"]:
        if guid := identifier(entry.get("guid")):
            entries.setdefault(guid, entry)
    return entries


def _record(
    url: str, feed: Mapping[str, Any], entry: Mapping[str, Any] | None
) -> Episode | SourceError:
    if entry is None:
        return SourceError("the feed no longer lists the episode")
    try:
        return episode_from_rss(url, feed, entry)
    except EpisodeError as error:
        return SourceError(str(error))
