"""What a feed lists compared with what it listed before: what is new, edited or withdrawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

DIGEST_BYTES = 8
UNSEEN = b""
"""The digest of an item of which a listing did not have the whole record."""


class Item(NamedTuple):
    """A listed episode. ``published`` is in unix seconds, 0 where the feed does not say."""

    episode_id: str
    digest: bytes = UNSEEN
    published: int = 0


Listing = Mapping[str, Item]
"""Items by their episode_id, the newest listing's first."""


def item_of(record: Mapping[str, Any]) -> Item:
    """An `episode` record as an item."""
    published: datetime | None = record["published_at"]
    seconds = int(published.timestamp()) if published else 0
    return Item(record["episode_id"], digest_of(record), seconds)


def digest_of(record: Mapping[str, Any]) -> bytes:
    """8 bytes that change with whatever changes in a record."""
    text = json.dumps(record, sort_keys=True, default=datetime.isoformat)
    return hashlib.sha256(text.encode()).digest()[:DIGEST_BYTES]


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


def withdrawn(known: Listing, listed: Listing) -> set[str]:
    """The ids that the publisher has taken out of a feed.

    An item that was listed and no longer is was withdrawn if an older one is still listed. Without
    an older one it may as well have fallen off the old end of a feed that holds so many items and
    no more. Where new items came at the same time and may have pushed it out, two older ones are
    asked for: such feeds often keep their trailer, the oldest item of all, for ever.

    An item without a date is neither older nor withdrawn, and a feed that lists nothing withdraws
    nothing.
    """
    dates = sorted(item.published for item in listed.values() if item.published)
    asked = 2 if listed.keys() - known.keys() else 1
    if len(dates) < asked:
        return set()
    return {
        key
        for key, item in known.items()
        if key not in listed and item.published > dates[asked - 1]
    }


def remembered(known: Listing, listed: Listing, most: int) -> dict[str, Item]:
    """What was listed now, then what was before, at most so many; a digest is not forgotten."""
    merged = {
        key: item if item.digest or key not in known else known[key]
        for key, item in (*listed.items(), *((k, v) for k, v in known.items() if k not in listed))
    }
    return dict(list(merged.items())[:most])
