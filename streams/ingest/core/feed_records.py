"""The episodes of a feed as they are stored, and what of the feed is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.ingest.core.episodes import EpisodeError, episode_from_rss
from streams.ingest.core.feeds import parse_feed

EPISODES_A_FEED = 200
"""The newest ones; a feed lists what it ever had."""


@dataclass(frozen=True)
class FeedRecords:
    """The `episode` ``records`` of a feed by their id, newest first.

    ``entries`` are what they were made of, by the same id, and ``feed`` what that came in, both as
    `parse_feed` gives them; ``refused`` has (what, why) of each entry that became no record.
    """

    feed: Mapping[str, Any]
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    entries: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)


def feed_records(url: str, body: bytes, most: int = EPISODES_A_FEED) -> FeedRecords:
    """The newest episodes of a feed; of those that share a guid, the newest.

    ``url`` is the address that was subscribed to. Raises FeedError if the body is no feed.
    """
    feed = parse_feed(url, body, most)
    found = FeedRecords(feed, refused=list(feed["refused"]))
    for entry in feed["episodes"]:
        try:
            record = episode_from_rss(url, feed, entry)
        except EpisodeError as error:
            found.refused.append((_shown(entry), str(error)))
            continue
        key = record["episode_id"]
        if key in found.records:
            found.refused.append((_shown(entry), "its guid is that of a newer entry"))
        else:
            found.records[key], found.entries[key] = record, entry
    return found


def _shown(entry: Mapping[str, Any]) -> str:
    return f"entry {str(entry.get('title') or entry.get('guid') or '')[:100]!r}"
