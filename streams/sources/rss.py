"""Episodes from RSS and Atom feeds."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import podcastparser

from streams.core.episodes import RSS, EpisodeError, episode_from_rss, one_line, rss_ref
from streams.fetcher import FetchError, GuardedFetcher
from streams.sources.base import Episode, Ref, SourceError

log = logging.getLogger(__name__)

EPISODES_A_FEED = 200

# podcastparser knows the podcast namespace by its documents' addresses only; this is its name.
podcastparser.Namespace.NAMESPACES["https://podcastindex.org/namespace/1.0"] = "podcast"


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
            guids = (one_line(entry.get("guid")) for entry in feed["episodes"])
            yield [rss_ref(url, guid, found_at) for guid in guids if guid]

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
            entries = {one_line(entry.get("guid")): entry for entry in feed["episodes"]}
            for ref in wanted:
                records[ref["episode_id"]] = _record(url, feed, entries.get(ref["source_id"]))
        return records

    async def _read(self, url: str) -> dict[str, Any]:
        try:
            fetched = await self._fetcher.get(url)
            # The feed's own URL, not the one redirects led to: podcastparser completes guids with
            # it, and ids must not change with the publisher's host.
            return await asyncio.to_thread(
                podcastparser.parse, url, io.BytesIO(fetched.body), EPISODES_A_FEED
            )
        except FetchError as error:
            raise SourceError(str(error)) from error
        except Exception as error:
            # podcastparser lets many kinds of error out, and the feed was written by a stranger.
            raise SourceError(f"not a feed: {type(error).__name__}: {error}"[:300]) from error


def _record(
    url: str, feed: Mapping[str, Any], entry: Mapping[str, Any] | None
) -> Episode | SourceError:
    if entry is None:
        return SourceError("the feed no longer lists the episode")
    try:
        return episode_from_rss(url, feed, entry)
    except EpisodeError as error:
        return SourceError(str(error))
