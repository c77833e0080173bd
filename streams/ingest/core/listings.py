"""What a feed lists compared with what it listed before: what is new, edited or withdrawn.

New and edited is what one listing says. What is missing from one may be back in the next: copies
of a feed at the edges of a network lag behind, each by its own measure.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_left
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from streams.text.addresses import lasting_address

_ADDRESS = re.compile(r"https?://[^\s<>\"']+", re.I)
"""An address in a text: descriptions for members tell them where to manage what they pay for."""
DIGEST_BYTES = 8
MISSED_LISTINGS = 3
"""Listings in a row, each other than the one before, after which an item stays away."""
MISSED_S = 6 * 3600
"""How long after its first absence an item that is still missing stays away."""
OLDER = 5
"""Older items still listed that tell a gap from the old end of a feed."""
UNSEEN = b""
"""The digest of an item of which a listing did not have the whole record."""


class Item(NamedTuple):
    """A listed episode. ``published`` is in unix seconds, 0 where the feed does not say."""

    episode_id: str
    digest: bytes = UNSEEN
    published: int = 0


class Missing(NamedTuple):
    """An item that was listed and no longer is, ``since`` a time in unix seconds, in so many
    ``listings`` that differed from the one before."""

    item: Item
    since: int
    listings: int


Listing = Mapping[str, Item]
"""Items by their episode_id, the newest listing's first."""


def item_of(record: Mapping[str, Any]) -> Item:
    """An `episode` record as an item."""
    published: datetime | None = record["published_at"]
    seconds = int(published.timestamp()) if published else 0
    return Item(record["episode_id"], digest_of(record), seconds)


def digest_of(record: Mapping[str, Any]) -> bytes:
    """8 bytes that change with whatever changes in a record.

    What expires in its addresses does not count, nor what was noted while it was read: that is
    about the reader as much as about the feed.
    """
    lasting = _lasting({name: value for name, value in record.items() if name != "notes"})
    text = json.dumps(lasting, sort_keys=True, default=datetime.isoformat)
    return hashlib.sha256(text.encode()).digest()[:DIGEST_BYTES]


def _lasting(value: Any) -> Any:
    """A value with every address in it as `lasting_address` has it."""
    if isinstance(value, str):
        if value.lower().startswith(("http://", "https://")):
            return lasting_address(value)
        return _ADDRESS.sub(lambda found: lasting_address(found[0]), value)
    if isinstance(value, list):
        return [_lasting(part) for part in value]
    if isinstance(value, dict):
        return {name: _lasting(part) for name, part in value.items()}
    return value


def new_and_edited(known: Listing, listed: Listing) -> tuple[set[str], set[str]]:
    """The ids of ``listed`` that were not known, and of those whose records are others now.

    A record that only one of the two listings had whole cannot be compared: it is not edited.
    """
    edited = {
        key
        for key, item in listed.items()
        if key in known and UNSEEN not in (item.digest, known[key].digest)
        if item.digest != known[key].digest
    }
    return listed.keys() - known.keys(), edited


def withdrawn(
    known: Listing, missing: Mapping[str, Missing], listed: Listing, now: float
) -> tuple[set[str], dict[str, Missing]]:
    """The ids that the publisher has taken out of a feed, and what is missing from now on.

    ``known`` is what was listed before and ``missing`` what was missing then. What is missing from
    three different listings in a row, or still after six hours, stays away. That it was withdrawn
    is only said where the listing has a gap (`is_gap`); otherwise it is forgotten. A listing
    without items says nothing.
    """
    if not listed:
        return set(), dict(missing)
    differs = dict(known) != dict(listed)
    dates = sorted(item.published for item in listed.values() if item.published)
    gone: set[str] = set()
    away: dict[str, Missing] = {}
    before = {key: Missing(item, int(now), 0) for key, item in known.items()} | dict(missing)
    for key, (item, since, listings) in before.items():
        if key in listed:
            continue
        listings += differs
        if listings < MISSED_LISTINGS and now - since < MISSED_S:
            away[key] = Missing(item, since, listings)
        elif is_gap(item, dates):
            gone.add(key)
    return gone, away


def is_gap(item: Item, dates: list[int]) -> bool:
    """Whether an item that is not listed would stand amid those that are; their dates are sorted.

    It does if five older ones are listed, or more older than newer ones. Fewer tell nothing: many
    feeds hold so many items, or those of so many days, and no more, and keep a few old ones, such
    as the trailer, for ever. An item without a date is neither older nor newer.
    """
    older = bisect_left(dates, item.published)
    return item.published > 0 and (older >= OLDER or older > len(dates) - older)


def remembered(known: Listing, listed: Listing, most: int) -> dict[str, Item]:
    """At most ``most`` items to remember: first those listed now, then those known before.

    An item that is listed without a digest keeps the one that is known.
    """
    merged = {
        key: item if item.digest or key not in known else known[key]
        for key, item in (*listed.items(), *((k, v) for k, v in known.items() if k not in listed))
    }
    return dict(list(merged.items())[:most])
