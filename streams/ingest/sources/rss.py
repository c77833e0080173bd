"""Episodes from RSS and Atom feeds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from streams.http.fetcher import Fetched, GuardedFetcher
from streams.http.guard import FetchError, GoneError, UnavailableError
from streams.http.media import FEED
from streams.ingest.core.episodes import RSS, rss_ref
from streams.ingest.core.feed_records import feed_records
from streams.ingest.core.feeds import FeedError
from streams.ingest.core.following import Cursor
from streams.ingest.core.listings import item_of, new_and_edited, withdrawn
from streams.ingest.sources.base import (
    Episode,
    FeedGoneError,
    Found,
    Ref,
    SourceError,
    UnavailableSourceError,
)

log = logging.getLogger(__name__)


class RssSource:
    """`Source` on feeds by their URL.

    A feed is fetched whole or, where it has not changed and its server says so, not at all. Ids are
    made of the URL that was subscribed to, wherever redirects lead.
    """

    name = RSS

    def __init__(self, fetcher: GuardedFetcher) -> None:
        self._fetcher = fetcher
        self._clock = fetcher.clock

    async def close(self) -> None:
        """Give connections back."""
        await self._fetcher.close()

    async def poll(self, subscription: Mapping[str, Any], cursor: Cursor) -> AsyncIterator[Found]:
        """What has changed among the newest 200 episodes; refs carry the whole record."""
        url = subscription["url"]
        fetched = await self._get(url, cursor.etag, cursor.last_modified)
        now = self._clock.now()
        found_at = datetime.fromtimestamp(now, UTC)
        if fetched.not_modified:
            gone, missing = withdrawn(cursor.listed, cursor.missing, cursor.listed, now)
            if missing != cursor.missing:
                refs = [_withdrawal(url, episode_id, found_at) for episode_id in sorted(gone)]
                yield Found(refs, replace(cursor, missing=missing))
            return
        records = await _read(url, fetched.body)
        listed = {episode_id: item_of(record) for episode_id, record in records.items()}
        away = {episode_id: missed.item for episode_id, missed in cursor.missing.items()}
        new, edited = new_and_edited({**away, **cursor.listed}, listed)
        gone, missing = withdrawn(cursor.listed, cursor.missing, listed, now)
        refs = [
            rss_ref(url, record["guid"], found_at)
            | {"found_by": "feed" if episode_id in new else "edit", "record": record}
            for episode_id, record in records.items()
            if episode_id in new | edited
        ]
        refs += [_withdrawal(url, episode_id, found_at) for episode_id in sorted(gone)]
        yield Found(
            refs,
            Cursor(
                etag=_validator(fetched.etag),
                last_modified=_validator(fetched.last_modified),
                listed=listed or cursor.listed,
                missing=missing,
            ),
        )

    async def fetch(self, refs: Sequence[Mapping[str, Any]]) -> dict[str, Episode | SourceError]:
        """Each feed is read once for all its refs."""
        found: dict[str, Episode | SourceError] = {}
        missing = SourceError("the feed no longer lists the episode")
        for url in dict.fromkeys(ref["feed_id"] for ref in refs):
            wanted = [ref["episode_id"] for ref in refs if ref["feed_id"] == url]
            try:
                fetched = await self._get(url)
                records = await _read(url, fetched.body)
            except SourceError as error:
                found |= dict.fromkeys(wanted, error)
                continue
            found |= {episode_id: records.get(episode_id, missing) for episode_id in wanted}
        return found

    async def _get(self, url: str, etag: str = "", last_modified: str = "") -> Fetched:
        try:
            return await self._fetcher.get(url, etag=etag, last_modified=last_modified, accept=FEED)
        except GoneError as error:
            raise FeedGoneError(str(error)) from error
        except UnavailableError as error:
            after_s = None if error.until is None else max(error.until - self._clock.now(), 0.0)
            raise UnavailableSourceError(str(error), after_s, asked=error.asked) from error
        except FetchError as error:
            raise SourceError(str(error)) from error


async def _read(url: str, body: bytes) -> dict[str, Episode]:
    """`_records` in a thread of its own."""
    try:
        return await asyncio.to_thread(_records, url, body)
    except SourceError:
        raise
    except Exception as error:
        # It was written by a stranger, and must not stop what others have published.
        log.exception("feed %s cannot be read", url)
        raise SourceError(f"not a feed: {type(error).__name__}: {error}"[:300]) from error


def _records(url: str, body: bytes) -> dict[str, Episode]:
    """The newest episodes of a feed by their id."""
    try:
        return feed_records(url, body).records
    except FeedError as error:
        raise SourceError(f"not a feed: {error}") from error


def _withdrawal(url: str, episode_id: str, found_at: datetime) -> Ref:
    """A ref that says that an episode is gone. What it was listed as is not kept, only its id."""
    ref = rss_ref(url, "", found_at)
    return ref | {"episode_id": episode_id, "withdrawn": True}


def _validator(value: str) -> str:
    """A validator as it may be sent back; one of odd characters is none."""
    return value if value.isascii() and value.isprintable() else ""
