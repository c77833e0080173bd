"""Where RSS, Atom and their namespaces keep what, and how each element is read.

podcastparser's targets, and others in their place where these lose something (all transcripts but
one, the times without a zone) or take time with the square of what a feed holds. ``handler`` is
the one of `streams.ingest.core.feeds`.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin

import podcastparser

from streams.ingest.core.dates import read_date
from streams.ingest.core.durations import duration_s
from streams.ingest.core.episodes import (
    MAX_ADDRESS,
    MAX_PERSONS,
    episode_type,
    flag,
    is_other_than_audio,
    ordinal,
)
from streams.text.plain_text import MAX_DESCRIPTION, MAX_SHORT

MAX_LISTED = 50
"""Enclosures and transcripts of an episode."""
MAX_BASE = 500
"""Characters of an `xml:base`, with which every address of a feed may be completed."""


def _joined(base: str, address: str | None) -> str:
    """An address completed with that of its feed; empty if it is none."""
    address = (address or "").strip()
    try:
        whole = urljoin(base, address) if 0 < len(address) < MAX_ADDRESS else ""
    except ValueError:
        return ""
    return whole if len(whole) < MAX_ADDRESS else ""


def _text(text: str) -> str:
    return text[: 10 * MAX_DESCRIPTION].strip()


class _Rss(podcastparser.Target):
    def start(self, handler: Any, attrs: Any) -> None:
        base = attrs.get("xml:base") or ""
        if len(base) <= MAX_BASE:
            handler.set_base(_joined(handler.base, base) or handler.base)


class _Guid(podcastparser.Target):
    WANT_TEXT = True

    def start(self, handler: Any, attrs: Any) -> None:
        permalink = attrs.get("isPermaLink", "true").strip().lower() == "true"
        handler.set_episode_attr("_guid_is_permalink", permalink)

    def end(self, handler: Any, text: str) -> None:
        if guid := text.strip():
            handler.set_episode_attr("guid", guid)


class _Link(podcastparser.Target):
    WANT_TEXT = True

    def end(self, handler: Any, text: str) -> None:
        if link := _joined(handler.base, text):
            handler.set_episode_attr("link", link)


class _AtomLink(podcastparser.Target):
    def start(self, handler: Any, attrs: Any) -> None:
        link = _joined(handler.base, attrs.get("href"))
        relation, kind = attrs.get("rel", "alternate"), attrs.get("type")
        if link and relation == "enclosure":
            handler.add_enclosure(link, -1, kind)
        elif link and relation == "alternate" and (kind or "text/html") == "text/html":
            handler.episodes[-1]["link"] = handler.episodes[-1]["link"] or link


class _Enclosure(podcastparser.Target):
    """A file of an episode. `medium` (Media RSS) says what it is where its type does not."""

    def start(self, handler: Any, attrs: Any) -> None:
        if url := _joined(handler.base, _address_in(attrs)):
            size = podcastparser.parse_length(attrs.get("length") or attrs.get("fileSize"))
            kind = attrs.get("type") or attrs.get("enc:type")
            medium = (attrs.get("medium") or "").strip().lower()
            if medium and (not kind or kind.strip().lower() in _TELLS_NOTHING):
                kind = f"{medium}/*"
            handler.add_enclosure(url, size, kind)
        elif not _address_in(attrs):
            handler.note_of_entry("an enclosure without an address left out")


def _address_in(attrs: Any) -> str:
    names = ("url", "rdf:resource", "href")
    return next((attrs[name] for name in names if attrs.get(name)), "")


class _RdfItem(podcastparser.EpisodeItem):
    """An item of RSS 1.0, whose id is in an attribute."""

    def start(self, handler: Any, attrs: Any) -> None:
        super().start(handler, attrs)
        handler.set_episode_attr("guid", (attrs.get("rdf:about") or "").strip())


class _Published(podcastparser.Target):
    """A date of an episode; that of the lowest ``rank`` that can be read counts."""

    WANT_TEXT = True

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def end(self, handler: Any, text: str) -> None:
        entry, read = handler.episodes[-1], read_date(text)
        seen = entry.get("_dated") or (_NO_RANK, "")
        if (self._rank if read.seconds else _NO_RANK - 1) < seen[0]:
            entry["published"] = read.seconds
            entry["_dated"] = (self._rank if read.seconds else _NO_RANK - 1, read.note)


class _Transcript(podcastparser.Target):
    def start(self, handler: Any, attrs: Any) -> None:
        if url := _joined(handler.base, attrs.get("url")):
            listed = handler.episodes[-1].setdefault("transcripts", [])
            if len(listed) < MAX_LISTED:
                said = {name: attrs.get(name) or "" for name in ("type", "language")}
                listed.append({"url": url, **said})


class _Chapters(podcastparser.Target):
    def start(self, handler: Any, attrs: Any) -> None:
        if url := _joined(handler.base, attrs.get("url")):
            found = {"url": url, "type": attrs.get("type") or ""}
            handler.episodes[-1].setdefault("chapters_link", found)


class _Person(podcastparser.Target):
    """A person of an episode; or of the show, whose list it is where an episode has none."""

    WANT_TEXT = True

    def __init__(self, of_show: bool = False) -> None:
        super().__init__()
        self._of_show = of_show

    def start(self, handler: Any, attrs: Any) -> None:
        handler.person = {
            "role": (attrs.get("role") or "")[:MAX_SHORT],
            "href": _joined(handler.base, attrs.get("href")),
            "img": _joined(handler.base, attrs.get("img")),
        }

    def end(self, handler: Any, text: str) -> None:
        place = handler.data if self._of_show else handler.episodes[-1]
        listed = place.setdefault("persons", [])
        if text.strip() and len(listed) < MAX_PERSONS:
            listed.append({"name": text.strip()[:MAX_SHORT], **handler.person})


class _Duration(podcastparser.Target):
    """How long an episode is, in seconds."""

    WANT_TEXT = True

    def end(self, handler: Any, text: str) -> None:
        found = duration_s(text)
        if found is None and text.strip():
            handler.note_of_entry(f"no duration: {text.strip()[:60]!r}")
        elif found:
            handler.episodes[-1]["total_time"] = found


class _Explicit(podcastparser.Target):
    """Whether something is explicit: of the show, or of an episode, which may say otherwise.

    What Apple's namespace says goes before what Google's does (``of_google``).
    """

    WANT_TEXT = True

    def __init__(self, of_show: bool, of_google: bool = False) -> None:
        super().__init__()
        self._of_show = of_show
        self._key = "google_explicit" if of_google else "explicit"

    def end(self, handler: Any, text: str) -> None:
        said = flag(text)
        if said is not None:
            (handler.data if self._of_show else handler.episodes[-1])[self._key] = said
        elif text.strip():
            note = f"neither explicit nor clean: {text.strip()[:60]!r}"
            (handler.notes.add if self._of_show else handler.note_of_entry)(note)


class _Ordinal(podcastparser.Target):
    """The number of a season or an episode. The podcast namespace's goes before Apple's."""

    WANT_TEXT = True

    def __init__(self, key: str, overwrite: bool) -> None:
        super().__init__()
        self._key = key
        self._overwrite = overwrite

    def end(self, handler: Any, text: str) -> None:
        found = _ORDINAL.fullmatch(text.strip()[:40])
        number = ordinal(found[1]) if found else None
        if number is not None and (self._overwrite or not handler.episodes[-1].get(self._key)):
            handler.episodes[-1][self._key] = number
        elif number is None and text.strip() and not _ZERO.fullmatch(text.strip()):
            handler.note_of_entry(f"no {self._key}: {text.strip()[:60]!r}")


class _Type(podcastparser.Target):
    WANT_TEXT = True

    def end(self, handler: Any, text: str) -> None:
        if found := episode_type(text):
            handler.episodes[-1]["type"] = found
        elif text.strip():
            handler.note_of_entry(f"no type of an episode: {text.strip()[:60]!r}")


class _AtomEntry(podcastparser.EpisodeItem):
    def start(self, handler: Any, attrs: Any) -> None:
        super().start(handler, attrs)
        handler.set_episode_attr("language", attrs.get("xml:lang"))


class _AtomFeed(podcastparser.Target):
    """Its work is done elsewhere, but for the language."""

    def start(self, handler: Any, attrs: Any) -> None:
        handler.set_podcast_attr("language", attrs.get("xml:lang"))


class _Nothing(podcastparser.Target):
    """In place of a target whose work is done elsewhere."""


_ORDINAL = re.compile(r"([0-9]{1,18})(?:\.0{1,3})?")
_ZERO = re.compile(r"-?0{1,9}(?:\.0{1,9})?")
_ITEM, _ENTRY, RDF = "rss/channel/item", "atom:feed/atom:entry", "rdf:RDF"
_TELLS_NOTHING = ("application/octet-stream", "binary/octet-stream", "application/unknown")
_NO_RANK = 99
_DATES = {
    **{"pubDate": 0, "published": 1, "atom:published": 1, "atom:issued": 2, "dc:date": 3},
    **dict.fromkeys(("dcterms:issued", "dcterms:date", "dcterms:available"), 4),
    **{"dcterms:created": 5, "dcterms:modified": 6, "atom:created": 7},
    **{"atom:updated": 8, "atom:modified": 9},
}
"""Elements that hold the date of an episode, by their rank."""
_CONTENT = podcastparser.EpisodeAttr("_content", _text)
_DESCRIPTION = podcastparser.EpisodeAttr("_description", _text)
_SUMMARY = podcastparser.EpisodeAttr("_summary", _text)
_UNTITLED = podcastparser.EpisodeAttr("title", podcastparser.squash_whitespace, overwrite=False)
_OF_PODCASTS: dict[str, Any] = {
    path: target
    for show, episode in (("rss/channel", _ITEM), ("atom:feed", _ENTRY))
    for path, target in {
        f"{show}/podcast:guid": podcastparser.PodcastAttr("feed_guid"),
        f"{show}/podcast:person": _Person(of_show=True),
        f"{episode}/podcast:person": _Person(),
        f"{episode}/podcast:transcript": _Transcript(),
        f"{episode}/podcast:chapters": _Chapters(),
        f"{episode}/podcast:season": _Ordinal("season", overwrite=True),
        f"{episode}/podcast:episode": _Ordinal("number", overwrite=True),
        f"{show}/itunes:explicit": _Explicit(of_show=True),
        f"{episode}/itunes:explicit": _Explicit(of_show=False),
        f"{show}/googleplay:explicit": _Explicit(of_show=True, of_google=True),
        f"{episode}/googleplay:explicit": _Explicit(of_show=False, of_google=True),
        f"{show}/googleplay:image": podcastparser.PodcastAttrFromHref("cover_url", overwrite=False),
        f"{episode}/itunes:duration": _Duration(),
        f"{episode}/itunes:season": _Ordinal("season", overwrite=False),
        f"{episode}/itunes:episode": _Ordinal("number", overwrite=False),
        f"{episode}/itunes:episodeType": _Type(),
    }.items()
}
"""What the podcast namespace adds, to RSS and Atom alike."""

_OF_ITUNES_HERE = ("season", "episode", "episodeType", "summary", "explicit", "duration")
"""What is read by targets of our own, above, or elsewhere."""
_OF_ITUNES: dict[str, Any] = {
    path.replace(_ITEM, _ENTRY).replace("rss/channel", "atom:feed"): target
    for path, target in podcastparser.MAPPING.items()
    if path.startswith("rss/channel/") and "itunes:" in path
    if path.rpartition(":")[2] not in _OF_ITUNES_HERE
}
"""What Apple's namespace adds to Atom, as it does to RSS."""

MAPPING: dict[str, Any] = {
    **podcastparser.MAPPING,
    "rss": _Rss(),
    "rss/channel": _Nothing(),
    "atom:feed": _AtomFeed(),
    _ENTRY: _AtomEntry(),
    f"{_ITEM}/guid": _Guid(),
    f"{_ITEM}/link": _Link(),
    f"{_ITEM}/atom:link": _AtomLink(),
    f"{_ENTRY}/atom:link": _AtomLink(),
    f"{_ITEM}/enclosure": _Enclosure(),
    f"{_ITEM}/media:content": _Enclosure(),
    f"{_ITEM}/media:group/media:content": _Enclosure(),
    **_OF_PODCASTS,
    f"{_ITEM}/itunes:title": _UNTITLED,
    f"{_ITEM}/content:encoded": _CONTENT,
    f"{_ENTRY}/content:encoded": _CONTENT,
    f"{_ENTRY}/atom:content": _CONTENT,
    f"{_ITEM}/description": _DESCRIPTION,
    f"{_ITEM}/itunes:summary": _SUMMARY,
    f"{_ITEM}/media:description": _SUMMARY,
    f"{_ITEM}/googleplay:description": _SUMMARY,
    f"{_ENTRY}/atom:summary": _SUMMARY,
    f"{_ENTRY}/media:group/media:description": _SUMMARY,
    f"{_ENTRY}/media:content": _Enclosure(),
    f"{_ENTRY}/media:group/media:content": _Enclosure(),
    f"{_ITEM}/enc:enclosure": _Enclosure(),
    **{
        f"{entry}/{name}": _Published(rank)
        for entry in (_ITEM, _ENTRY)
        for name, rank in _DATES.items()
    },
    **_OF_ITUNES,
}
MAPPING |= {
    # RSS 1.0 has its items beside the channel.
    path.replace(_ITEM, f"{RDF}/item").replace("rss/channel", f"{RDF}/channel"): target
    for path, target in MAPPING.items()
    if path.startswith("rss/channel/")
} | {f"{RDF}/item": _RdfItem()}
ROOTS = {path.partition("/")[0] for path in MAPPING}
SPELLINGS = {name.lower(): name for path in MAPPING for name in path.split("/")}
"""The names of all these elements by what they are without capitals, as some generators write."""
DEEPEST = 1 + max(path.count("/") for path in MAPPING)


def audio_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The enclosures that may be audio; all of them where none is."""
    listed: list[dict[str, Any]] = entry["enclosures"]
    audio = [e for e in listed if not is_other_than_audio(e["mime_type"], e["url"])]
    return audio or ([] if entry["link"] else listed)
