"""Which episodes of several sources are one, and what is published of it.

The identity of an episode is its guid together with the address of its audio, without what hosts
and trackers put around it. Every source that lists it has a copy; what is published is made of
all copies that are not withdrawn, under the id of the one that came first.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from yarl import URL

from schemas.codec import from_plain, to_plain
from streams.ingest.core.episodes import PODCASTINDEX, RSS

EpisodeRecord = dict[str, Any]
"""An `episode` record."""

MOST_COPIES = 15
"""Anybody may list anybody's episode: further copies are left out, or a state outgrows its log."""

RANKS = {RSS: 0, PODCASTINDEX: 1}
"""The publisher's own feed knows best."""

_LAST_RANK = len(RANKS)

# Services that count downloads: the address of the audio follows theirs.
_TRACKERS = re.compile(
    r"(?:(?:dts|www|play|pts)\.)?podtrac\.com/(?:pts/)?redirect\.[a-z0-9]{2,4}/"
    r"|play\.podtrac\.com/[^/]{1,100}/"
    r"|(?:chrt\.fm|chtbl\.com|swap\.fm|tracking\.swap\.fm)/track/[^/]{1,100}/"
    r"|(?:pdst\.fm|pdcn\.co|prfx\.byspotify\.com)/e/"
    r"|op3\.dev/e(?:,[^/]{1,200})?/"
    r"|mgln\.ai/(?:e|track)/[^/]{1,100}/"
    r"|(?:pscrb\.fm|verifi\.podscribe\.com)/rss/p/"
    r"|(?:claritaspod\.com/measure|clrtpod\.com/m)/"
    r"|(?:arttrk\.com/p|p\.podderapp\.com|pfx\.vpixl\.com|pfx\.veritonic\.com)/[^/]{1,100}/"
    r"|growx\.podkite\.com/https/[^/]{1,100}/"
    r"|media\.blubrry\.com/[^/]{1,100}/(?:p/)?"
)
_SCHEME = re.compile(r"https?(?::|%3a)?/{1,2}", re.IGNORECASE)
_HOST = re.compile(r"[\w-]{1,63}(?:\.[\w-]{1,63}){1,10}(?::[0-9]{1,5})?/")


def identity_of(episode: EpisodeRecord) -> str:
    """The identity of an `episode` record: a digest of guid and audio, or its own id without."""
    audio = audio_location(episode["enclosure_url"])
    if not episode["guid"] or not audio:
        return str(episode["episode_id"])
    joined = f"{episode['guid']}\n{audio}".encode("utf-8", "replace")
    return hashlib.sha256(joined).hexdigest()[:32]


def audio_location(address: str) -> str:
    """Where audio lies: host and path of its address, without scheme, `www.` and trackers.

    Empty if the address is none. Query and fragment are left out: hosts count listeners there.
    """
    try:
        url = URL(address)
        host, port, path = url.host, url.explicit_port, url.path
    except ValueError:
        return ""
    if not host:
        return ""
    place = _without_www(host.lower() + (f":{port}" if port not in (None, 80, 443) else "") + path)
    while tracked := _TRACKERS.match(place):
        inner = place[tracked.end() :]
        if scheme := _SCHEME.match(inner):
            inner = inner[scheme.end() :]
        if not _HOST.match(inner):
            break
        inner_host, _, rest = inner.partition("/")
        place = _without_www(f"{inner_host.lower()}/{rest}")
    return place


def _without_www(place: str) -> str:
    return place.removeprefix("www.")


@dataclass(frozen=True, slots=True)
class Copy:
    """What a source says of an episode: its own id of it, and the `episode` record."""

    episode_id: str
    source: str
    record: EpisodeRecord


@dataclass(frozen=True, slots=True)
class Copies:
    """All that is known of one episode; ``offset`` is that of the last candidate folded in.

    ``episode_id`` is that of the first copy there ever was: it stays, whoever withdraws.
    """

    offset: int
    episode_id: str
    copies: tuple[Copy, ...]


def fold(
    before: Copies | None, offset: int, episode_id: str, source: str, record: EpisodeRecord | None
) -> Copies:
    """The copies after a source has said what its copy is now, or that it has none (None)."""
    first = before.episode_id if before else episode_id
    copies = {copy.episode_id: copy for copy in before.copies} if before else {}
    if record is None:
        copies.pop(episode_id, None)
    elif episode_id in copies or len(copies) < MOST_COPIES:
        copies[episode_id] = Copy(episode_id, source, record)
    return Copies(offset, first, tuple(copies.values()))


def published(episode: Copies | None) -> EpisodeRecord | None:
    """The `episode` record of all copies; None where every source has withdrawn it.

    The copy of the best source counts, publisher's feeds before the index; among equals the one
    that came first. What it leaves empty is taken from the next one.
    """
    if episode is None or not episode.copies:
        return None
    best, *others = sorted(episode.copies, key=lambda c: RANKS.get(c.source, _LAST_RANK))
    record = best.record.copy()
    for other in others:
        of_same_chapters = record["chapters_url"] in ("", other.record["chapters_url"])
        for name, value in other.record.items():
            # A type belongs to its address, notes to their record, and false is an answer.
            if name == "notes":
                continue
            if record[name] in (None, "", []) and (name != "chapters_type" or of_same_chapters):
                record[name] = value
    return {**record, "episode_id": episode.episode_id}


def encode(episode: Copies, encode_record: Callable[[EpisodeRecord], bytes]) -> bytes:
    """`episode_copies` as Avro, packed: a worker holds the states of its partitions in memory."""
    copies = [
        {"episode_id": c.episode_id, "source": c.source, "record": encode_record(c.record)}
        for c in episode.copies
    ]
    state = {"offset": episode.offset, "episode_id": episode.episode_id, "copies": copies}
    return zlib.compress(to_plain("episode_copies", state), 1)


def decode(value: bytes, decode_record: Callable[[bytes], EpisodeRecord]) -> Copies:
    """The state in ``value``."""
    state = from_plain("episode_copies", zlib.decompress(value))
    copies = (
        Copy(c["episode_id"], c["source"], decode_record(c["record"])) for c in state["copies"]
    )
    return Copies(state["offset"], state["episode_id"], tuple(copies))
