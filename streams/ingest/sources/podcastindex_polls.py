"""What is new in an index: how PodcastIndex's listings are asked, and where they were left."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from streams.ingest.core.episodes import (
    EPOCH,
    EpisodeError,
    episode_from_podcastindex,
    index_id,
    podcastindex_ref,
    utc_time,
)
from streams.ingest.core.following import Cursor
from streams.ingest.core.listings import Item, Listing, item_of, new_and_edited, remembered
from streams.ingest.sources.base import Found, Ref
from streams.runtime.clock import Clock

log = logging.getLogger(__name__)

IDS_A_REQUEST = 200
MAX_RESULTS = 1000

TRENDING_FEEDS = 50
FIRST_EPISODES = 5
"""Newest episodes of each trending show that come before anything else."""
EPISODES_A_FEED = 20
RECENT_EPISODES = 60
REMEMBERED = 20_000
"""Episodes that were listed, the last ones: more than are listed between two whole listings."""
WHOLE_EVERY_S = 86_400
OVERLAP_S = 86_400
"""How late the index may come to an episode, or a publisher to an edit."""
RECENT = "recent"
"""What a cursor calls its position in the listing of everything that is new."""


class Index(Protocol):
    """The listings of an index, as `PodcastIndexClient` has them."""

    async def trending(
        self, limit: int, languages: Sequence[str] = (), categories: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Feeds, the most trending first."""

    async def episodes_of(
        self, feed_ids: Sequence[str], limit: int, since: int | None = None
    ) -> list[dict[str, Any]]:
        """Episodes of up to 200 feeds, newest first; from ``since`` (Unix seconds) on, if given."""

    async def recent(self, since: int | None = None) -> tuple[list[dict[str, Any]], int | None]:
        """What came in lately, the newest first, and the ``since`` to go on with."""


async def poll_index(
    client: Index, subscription: Mapping[str, Any], cursor: Cursor, clock: Clock
) -> AsyncIterator[Found]:
    """The newest episodes of each trending show, more of each, then what is new anywhere.

    A show is listed whole until that tells nothing new, for an index may answer badly, and again
    after a day; in between only what it has published since the day before. Of what is new
    anywhere the newest 60 are taken: an index gets more than can be fetched.
    """
    started = int(clock.now())
    trending = await client.trending(
        TRENDING_FEEDS, subscription["languages"], subscription["categories"]
    )
    ids = (index_id(feed.get("id")) for feed in trending)
    feeds = list(dict.fromkeys(str(feed) for feed in ids if feed))
    settled = {
        feed: at
        for feed, at in cursor.positions.items()
        if feed in feeds and started - at < WHOLE_EVERY_S
    }
    whole = [feed for feed in feeds if feed not in settled]
    by_feed = await _newest_of(client, whole)
    if settled:
        since = min(settled.values()) - OVERLAP_S
        by_feed |= await _newest_of(client, list(settled), since)
    told = {feed for feed in whole if _all_known(by_feed.get(feed, [{}]), cursor.listed)}
    settled |= dict.fromkeys(told, started)
    ranked = [by_feed[feed] for feed in feeds if feed in by_feed]
    first = [item for items in ranked for item in items[:FIRST_EPISODES]]
    more = [item for items in ranked for item in items[FIRST_EPISODES:]]
    yield (found := _found(first, "trending", cursor, clock.now()))
    positions = {name: at for name, at in cursor.positions.items() if name == RECENT} | settled
    with_positions = replace(found.cursor, positions=positions)
    yield (found := _found(more, "trending", with_positions, clock.now()))
    recent, next_since = await client.recent(positions.get(RECENT))
    if len(recent) > RECENT_EPISODES or _all_known(recent, found.cursor.listed):
        positions = {**positions, RECENT: next_since or started}
    with_positions = replace(found.cursor, positions=positions)
    yield _found(recent[:RECENT_EPISODES], "recent", with_positions, clock.now())


def _all_known(items: Sequence[Mapping[str, Any]], known: Listing) -> bool:
    """Whether a listing told of no episode that was not known, nor of one without an id."""
    return all(f"pi:{index_id(item.get('id'))}" in known for item in items)


async def _newest_of(
    client: Index, feed_ids: Sequence[str], since: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The newest episodes of each feed, by feed; with ``since``, those published from then on.

    As ``max`` is shared, busy feeds may crowd out others: those are asked for again.
    """
    by_feed: dict[str, list[dict[str, Any]]] = {}
    missing = list(feed_ids)
    while missing:
        asked, missing = missing[:IDS_A_REQUEST], missing[IDS_A_REQUEST:]
        items = await client.episodes_of(asked, EPISODES_A_FEED * len(asked), since)
        found: dict[str, list[dict[str, Any]]] = {}
        for item in items:
            # Only what was asked for counts, or an index that mixes up feeds is asked for ever.
            if (feed := str(index_id(item.get("feedId")))) in asked:
                found.setdefault(feed, []).append(item)
        by_feed |= found
        starved = [feed for feed in asked if feed not in found]
        if found and len(items) >= min(EPISODES_A_FEED * len(asked), MAX_RESULTS):
            missing += starved
    for items in by_feed.values():
        items.sort(key=lambda item: utc_time(item.get("datePublished")) or EPOCH, reverse=True)
        del items[EPISODES_A_FEED:]
    return by_feed


def _found(items: Sequence[Mapping[str, Any]], found_by: str, cursor: Cursor, now: float) -> Found:
    """Refs of those items that are new or edited, and the cursor that knows them."""
    found_at = datetime.fromtimestamp(now, UTC)
    listed: dict[str, Item] = {}
    refs: dict[str, Ref] = {}
    for item in items:
        try:
            ref = podcastindex_ref(item, found_by, found_at)
            # A listing that has no durations has no transcripts and no persons either.
            whole = item_of(episode_from_podcastindex(item)) if "duration" in item else None
        except EpisodeError as error:
            log.warning("an item of the index is left out: %s", error)
            continue
        refs[ref["episode_id"]] = ref
        listed[ref["episode_id"]] = whole or Item(ref["episode_id"])
    new, edited = new_and_edited(cursor.listed, listed)
    announced = [
        ref | {"found_by": found_by if episode_id in new else "edit"}
        for episode_id, ref in refs.items()
        if episode_id in new | edited
    ]
    return Found(announced, replace(cursor, listed=remembered(cursor.listed, listed, REMEMBERED)))
