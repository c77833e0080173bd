"""How far a subscription has been followed, and when its feed is polled next.

One value of the table holds it all, so that what was announced and where to go on change together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from schemas.codec import from_plain, to_plain
from streams.ingest.core.listings import Item, Missing

DAY_S = 86_400.0
HOUR_S = 3_600.0
JITTER = 0.1
SOON_S = 60.0
_MOST_DOUBLINGS = 32


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a source was left.

    The validators of the last body (HTTP), the positions in an index's listings (unix seconds),
    the newest items that were listed, by episode_id, and those that are missing since.
    """

    etag: str = ""
    last_modified: str = ""
    positions: Mapping[str, int] = field(default_factory=dict)
    listed: Mapping[str, Item] = field(default_factory=dict)
    missing: Mapping[str, Missing] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Followed:
    """A subscription (framed, as it came at offset ``revision``) and what became of it so far.

    ``next_poll_at`` is in unix seconds; one that is ``gone`` is not polled.
    """

    subscription: bytes
    revision: int
    cursor: Cursor = field(default_factory=Cursor)
    next_poll_at: float = 0.0
    failures: int = 0
    gone: bool = False


def subscribed(before: Followed | None, subscription: bytes, revision: int) -> Followed:
    """The state after a subscription, due at once unless nothing about it is new.

    One that came before changes nothing when it comes again; a later one revives a feed that was
    gone or kept failing.
    """
    if before is None:
        return Followed(subscription, revision)
    if revision <= before.revision:
        return before
    as_before = subscription == before.subscription and not before.gone and not before.failures
    return Followed(
        subscription,
        revision,
        before.cursor,
        next_poll_at=before.next_poll_at if as_before else 0.0,
    )


def polled(
    followed: Followed,
    cursor: Cursor,
    *,
    url: str,
    now: float,
    interval_s: float,
    failed: bool,
    transient: bool = False,
) -> Followed:
    """The state after a poll that ended at ``now``, and left its source at ``cursor``.

    ``transient``: what failed may be over by itself, such as the network or the server.
    """
    failures = followed.failures + 1 if failed else 0
    delay_s = poll_delay(url, interval_s, failures, HOUR_S if transient else DAY_S)
    return replace(followed, cursor=cursor, next_poll_at=now + delay_s, failures=failures)


def put_off(
    followed: Followed, cursor: Cursor, *, url: str, until: float, interval_s: float
) -> Followed:
    """The state after a poll whose host was not to be asked before ``until``, which is nobody's
    failure. Those that wait for the same host come one after the other then."""
    delay_s = min(interval_s, SOON_S) * (0.5 + _drawn(url) / 2)
    return replace(followed, cursor=cursor, next_poll_at=until + delay_s)


def poll_delay(url: str, interval_s: float, failures: int, longest_s: float = DAY_S) -> float:
    """Seconds until the next poll: the interval, doubled for each failure, up to ``longest_s``.

    Up to a tenth is taken off, by the feed's URL and the number of failures, so that feeds that
    were added or failed together do not stay together.
    """
    grown = interval_s * 2.0 ** min(failures, _MOST_DOUBLINGS)
    if failures:
        grown = min(grown, max(longest_s, interval_s))
    return grown * (1 - JITTER * _drawn(f"{url}\n{failures}"))


def due_at_start(followed: Followed, *, url: str, now: float) -> float:
    """When a feed is due for a worker that has just started: what kept one from answering may have
    been repaired, so that those that failed are asked within a minute."""
    if not followed.failures:
        return followed.next_poll_at
    return min(followed.next_poll_at, now + SOON_S * _drawn(url))


def _drawn(text: str) -> float:
    """A number from 0 to 1 that follows from a text."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def encode(followed: Followed) -> bytes:
    """`feed_cursor` as plain Avro bytes."""
    cursor = followed.cursor
    record = {
        "subscription": followed.subscription,
        "revision": followed.revision,
        "next_poll_at": datetime.fromtimestamp(followed.next_poll_at, UTC),
        "failures": followed.failures,
        "gone": followed.gone,
        "etag": cursor.etag,
        "last_modified": cursor.last_modified,
        "positions": cursor.positions,
        "listed": [item._asdict() for item in cursor.listed.values()],
        "missing": [
            {"item": item._asdict(), "since": since, "listings": listings}
            for item, since, listings in cursor.missing.values()
        ],
    }
    return to_plain("feed_cursor", record)


def decode(value: bytes) -> Followed:
    """The state in ``value``, which may be one of the time before anything was missing."""
    record = from_plain("feed_cursor", value)
    items = (Item(**item) for item in record["listed"])
    missing = (
        Missing(Item(**away["item"]), away["since"], away["listings"]) for away in record["missing"]
    )
    return Followed(
        subscription=record["subscription"],
        revision=record["revision"],
        cursor=Cursor(
            record["etag"],
            record["last_modified"],
            record["positions"],
            {item.episode_id: item for item in items},
            {away.item.episode_id: away for away in missing},
        ),
        next_poll_at=record["next_poll_at"].timestamp(),
        failures=record["failures"],
        gone=record["gone"],
    )
