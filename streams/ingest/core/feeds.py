"""Reads RSS and Atom feeds as they are published, which is not always as XML allows.

podcastparser knows where feeds keep what; its targets are replaced here where they lose something
(all transcripts but one, the times without a zone), let one odd tag cost the whole feed, keep state
between feeds that are parsed at the same time, or take time with the square of what a feed holds.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin
from xml.parsers import expat

import podcastparser

from streams.ingest.core.dates import read_date
from streams.ingest.core.episodes import (
    MAX_ADDRESS,
    MAX_NAMES,
    MAX_PERSONS,
    episode_type,
    is_other_than_audio,
    ordinal,
)
from streams.ingest.core.xml_declarations import DeclarationError, Declarations
from streams.ingest.core.xml_mending import declared_otherwise, mended_xml
from streams.ingest.core.xml_namespaces import Namespace
from streams.text.addresses import lasting_address
from streams.text.notes import Notes
from streams.text.plain_text import MAX_DESCRIPTION, MAX_NAME, MAX_SHORT, without_cdata

# A stranger's misspelt dates and prefixes are no events of ours.
logging.getLogger("podcastparser").setLevel(logging.CRITICAL)

MAX_LISTED = 50
"""Enclosures and transcripts of an episode."""
MAX_BASE = 500
"""Characters of an `xml:base`, with which every address of a feed may be completed."""
MAX_OF_SHOW = 2 * MAX_SHORT
"""Characters of a text about the show, which is read anew for every episode."""

_DECLARES = re.compile(rb"<!(?:DOCTYPE|ENTITY)\b")


class FeedError(ValueError):
    """What was published is no feed; the message says why."""


def parse_feed(url: str, body: bytes, max_episodes: int) -> dict[str, Any]:
    """A feed as podcastparser gives them, with its newest ``max_episodes`` entries, newest first.

    Entries without a date come last, in the feed's order. An entry's `transcripts` are a list of
    ``{"url", "type", "language"}``, its `chapters_link` is ``{"url", "type"}``; `persons`, its own
    and the feed's, are ``{"name", "role", "href", "img"}``; its `guid` is as published or, without
    one, the address of its audio or page. Addresses are completed with ``url``. `notes`, the
    feed's and each entry's, say what was dropped, guessed or mended.

    What follows the end of the feed is passed over. Raises FeedError; a body that breaks the rules
    of XML in one of the usual ways is mended first, unless it declares entities of its own.
    """
    try:
        return _parsed(url, body, max_episodes, Notes())
    except FeedError:
        if _DECLARES.search(body) or b"\0" in body[:100]:
            raise
        notes = Notes()
        mended = mended_xml(body, notes)
        with suppress(FeedError):
            return _parsed(url, mended, max_episodes, notes)
        raise


def _parsed(url: str, body: bytes, max_episodes: int, notes: Notes) -> dict[str, Any]:
    handler = _Handler(url, max_episodes, notes)
    declared = declared_otherwise(body)
    if declared:
        notes.add(f"declared as {declared}, but it is UTF-8")
    parser = expat.ParserCreate("utf-8" if declared else None)
    parser.buffer_text = True
    declarations = Declarations()
    parser.EntityDeclHandler = declarations.check_entity
    parser.AttlistDeclHandler = declarations.check_attribute
    parser.StartElementHandler = handler.startElement
    parser.EndElementHandler = handler.endElement
    parser.CharacterDataHandler = handler.characters
    try:
        # In one go: expat takes square time for long tokens that come in pieces.
        parser.Parse(body, True)
    except FeedError:
        raise
    except DeclarationError as error:
        raise FeedError(str(error)) from error
    except expat.ExpatError as error:
        if not handler.ended:
            raise FeedError(f"line {error.lineno}: {expat.ErrorString(error.code)}") from error
        notes.add(f"line {error.lineno}: what follows the end of the feed was passed over")
    except Exception as error:
        # An encoding that expat cannot read is a ValueError or LookupError, and there may be more.
        raise FeedError(f"{type(error).__name__}: {error}"[:300]) from error
    if handler.root == _RDF and not handler.episodes:
        raise FeedError(f"it begins with <!{_RDF}>, and lists nothing")
    return {**handler.data, "episodes": handler.newest(), "notes": notes.listed()}


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
    def start(self, handler: _Handler, attrs: Any) -> None:
        base = attrs.get("xml:base") or ""
        if len(base) <= MAX_BASE:
            handler.set_base(_joined(handler.base, base) or handler.base)


class _Guid(podcastparser.Target):
    WANT_TEXT = True

    def start(self, handler: _Handler, attrs: Any) -> None:
        permalink = attrs.get("isPermaLink", "true").strip().lower() == "true"
        handler.set_episode_attr("_guid_is_permalink", permalink)

    def end(self, handler: _Handler, text: str) -> None:
        if guid := text.strip():
            handler.set_episode_attr("guid", guid)


class _Link(podcastparser.Target):
    WANT_TEXT = True

    def end(self, handler: _Handler, text: str) -> None:
        if link := _joined(handler.base, text):
            handler.set_episode_attr("link", link)


class _AtomLink(podcastparser.Target):
    def start(self, handler: _Handler, attrs: Any) -> None:
        link = _joined(handler.base, attrs.get("href"))
        relation, kind = attrs.get("rel", "alternate"), attrs.get("type")
        if link and relation == "enclosure":
            handler.add_enclosure(link, -1, kind)
        elif link and relation == "alternate" and (kind or "text/html") == "text/html":
            handler.episodes[-1]["link"] = handler.episodes[-1]["link"] or link


class _Enclosure(podcastparser.Target):
    """A file of an episode. `medium` (Media RSS) says what it is where its type does not."""

    def start(self, handler: _Handler, attrs: Any) -> None:
        if url := _joined(handler.base, attrs.get("url") or attrs.get("rdf:resource")):
            size = podcastparser.parse_length(attrs.get("length") or attrs.get("fileSize"))
            kind, medium = attrs.get("type"), (attrs.get("medium") or "").strip().lower()
            if medium and (not kind or kind.strip().lower() in _TELLS_NOTHING):
                kind = f"{medium}/*"
            handler.add_enclosure(url, size, kind)


class _RdfItem(podcastparser.EpisodeItem):
    """An item of RSS 1.0, whose id is in an attribute."""

    def start(self, handler: _Handler, attrs: Any) -> None:
        super().start(handler, attrs)
        handler.set_episode_attr("guid", (attrs.get("rdf:about") or "").strip())


class _Published(podcastparser.Target):
    """A date of an episode; that of the lowest ``rank`` that can be read counts."""

    WANT_TEXT = True

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank = rank

    def end(self, handler: _Handler, text: str) -> None:
        entry, read = handler.episodes[-1], read_date(text)
        seen = entry.get("_dated") or (_NO_RANK, "")
        if (self._rank if read.seconds else _NO_RANK - 1) < seen[0]:
            entry["published"] = read.seconds
            entry["_dated"] = (self._rank if read.seconds else _NO_RANK - 1, read.note)


class _Transcript(podcastparser.Target):
    def start(self, handler: _Handler, attrs: Any) -> None:
        if url := _joined(handler.base, attrs.get("url")):
            listed = handler.episodes[-1].setdefault("transcripts", [])
            if len(listed) < MAX_LISTED:
                said = {name: attrs.get(name) or "" for name in ("type", "language")}
                listed.append({"url": url, **said})


class _Chapters(podcastparser.Target):
    def start(self, handler: _Handler, attrs: Any) -> None:
        if url := _joined(handler.base, attrs.get("url")):
            found = {"url": url, "type": attrs.get("type") or ""}
            handler.episodes[-1].setdefault("chapters_link", found)


class _Person(podcastparser.Target):
    """A person of an episode; or of the show, whose list it is where an episode has none."""

    WANT_TEXT = True

    def __init__(self, of_show: bool = False) -> None:
        super().__init__()
        self._of_show = of_show

    def start(self, handler: _Handler, attrs: Any) -> None:
        handler.person = {
            "role": (attrs.get("role") or "")[:MAX_SHORT],
            "href": _joined(handler.base, attrs.get("href")),
            "img": _joined(handler.base, attrs.get("img")),
        }

    def end(self, handler: _Handler, text: str) -> None:
        place = handler.data if self._of_show else handler.episodes[-1]
        listed = place.setdefault("persons", [])
        if text.strip() and len(listed) < MAX_PERSONS:
            listed.append({"name": text.strip()[:MAX_SHORT], **handler.person})


class _AtomEntry(podcastparser.EpisodeItem):
    def start(self, handler: _Handler, attrs: Any) -> None:
        super().start(handler, attrs)
        handler.set_episode_attr("language", attrs.get("xml:lang"))


class _AtomFeed(podcastparser.Target):
    """Its work is done elsewhere, but for the language."""

    def start(self, handler: _Handler, attrs: Any) -> None:
        handler.set_podcast_attr("language", attrs.get("xml:lang"))


class _Nothing(podcastparser.Target):
    """In place of a target whose work is done elsewhere."""


def _number(text: str) -> int | str:
    """A number of a season or an episode; empty if it is none, such as 3.5, for others to say."""
    return ordinal(text) or ""


_ITEM, _ENTRY, _RDF = "rss/channel/item", "atom:feed/atom:entry", "rdf:RDF"
_TELLS_NOTHING = ("application/octet-stream", "binary/octet-stream", "application/unknown")
_NO_RANK = 99
_DATES = {
    **{"pubDate": 0, "pubdate": 0, "atom:published": 1, "atom:issued": 2, "dc:date": 3},
    **{"dcterms:issued": 4, "dcterms:created": 5, "dcterms:modified": 6, "atom:created": 7},
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
        f"{episode}/podcast:season": podcastparser.EpisodeAttr("season", _number),
        f"{episode}/podcast:episode": podcastparser.EpisodeAttr("number", _number),
    }.items()
}
"""What the podcast namespace adds, to RSS and Atom alike."""

_OF_ITUNES: dict[str, Any] = {
    path.replace(_ITEM, _ENTRY).replace("rss/channel", "atom:feed"): target
    for path, target in podcastparser.MAPPING.items()
    if path.startswith("rss/channel/") and "itunes:" in path
    if path.rpartition(":")[2] not in ("season", "episode", "episodeType", "summary")
} | {
    f"{_ENTRY}/itunes:season": podcastparser.EpisodeAttr("season", _number, overwrite=False),
    f"{_ENTRY}/itunes:episode": podcastparser.EpisodeAttr("number", _number, overwrite=False),
    f"{_ENTRY}/itunes:episodeType": podcastparser.EpisodeAttr("type", episode_type),
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
    f"{_ITEM}/itunes:season": podcastparser.EpisodeAttr("season", _number, overwrite=False),
    f"{_ITEM}/itunes:episode": podcastparser.EpisodeAttr("number", _number, overwrite=False),
    f"{_ITEM}/itunes:episodeType": podcastparser.EpisodeAttr("type", episode_type),
    **_OF_PODCASTS,
    f"{_ITEM}/itunes:title": _UNTITLED,
    f"{_ITEM}/content:encoded": _CONTENT,
    f"{_ENTRY}/content:encoded": _CONTENT,
    f"{_ENTRY}/atom:content": _CONTENT,
    f"{_ITEM}/description": _DESCRIPTION,
    f"{_ITEM}/itunes:summary": _SUMMARY,
    f"{_ITEM}/media:description": _SUMMARY,
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
    path.replace(_ITEM, f"{_RDF}/item").replace("rss/channel", f"{_RDF}/channel"): target
    for path, target in MAPPING.items()
    if path.startswith("rss/channel/")
} | {f"{_RDF}/item": _RdfItem()}
_ROOTS = {path.partition("/")[0] for path in MAPPING}
_DEEPEST = 1 + max(path.count("/") for path in MAPPING)


class _Handler(podcastparser.PodcastHandler):
    """What podcastparser's does, in bounded time, and with every odd tag left out by itself."""

    namespace: Any
    text: Any

    def __init__(self, url: str, max_episodes: int, notes: Notes) -> None:
        super().__init__(url, max_episodes)
        self.data["title"] = ""
        self.notes = notes
        self.depth = 0
        self.root = ""
        self.ended = False
        self.person: dict[str, Any] = {}

    def set_podcast_attr(self, key: str, value: Any) -> None:
        self.data[key] = value[:MAX_OF_SHOW] if isinstance(value, str) else value

    def append_itunes_category(self, key: str, value: str) -> None:
        if len(self.data.setdefault(key, [])) < 2 * MAX_NAMES:
            super().append_itunes_category(key, value[: 2 * MAX_NAME])

    def append_itunes_subcategory(self, key: str, value: str) -> None:
        if len(self.data[key][-1]) < 2 * MAX_NAMES:
            super().append_itunes_subcategory(key, value[: 2 * MAX_NAME])

    def add_enclosure(self, url: str, file_size: int, mime_type: str | None) -> None:
        if len(self.episodes[-1]["enclosures"]) < MAX_LISTED:
            super().add_enclosure(url, file_size, mime_type)

    def newest(self) -> list[dict[str, Any]]:
        return sorted(self.episodes, key=lambda e: -e["published"])[: self.max_episodes]

    def startElement(self, name: str, attrs: Any) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            return
        self.namespace = Namespace(attrs, self.namespace)
        # A default namespace that nobody knows is a dialect of RSS.
        name = self.namespace.map(name).removeprefix("None:")
        if not self.path_stack:
            if name not in _ROOTS:
                raise FeedError(f"it begins with <{name[:60]}>")
            self.root = name
        self.path_stack.append(name)
        target = MAPPING.get("/".join(self.path_stack))
        if target is not None:
            self._try(lambda: target.start(self, attrs))
            if target.WANT_TEXT:
                self.text = []

    def endElement(self, name: str) -> None:
        self.depth -= 1
        if self.text is not None:
            self.text.append(" ")
        if self.depth >= _DEEPEST:
            return
        target = MAPPING.get("/".join(self.path_stack))
        if target is not None:
            text = without_cdata("".join(self.text or ()))
            self.text = None
            self._try(lambda: target.end(self, text))
        self.namespace = self.namespace.parent
        self.path_stack.pop()
        self.ended = not self.path_stack

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            # podcastparser lets many kinds of error out, and the tag was written by a stranger.
            self.notes.add(f"an element left out: {type(error).__name__}: {error}")

    def validate_episode(self) -> None:
        entry = self.episodes[-1]
        permalink = entry.pop("_guid_is_permalink")
        texts = [entry.pop(key, "") for key in ("_content", "_description", "_summary")]
        entry["description_html"] = next(filter(None, texts), "")
        if not entry["link"] and permalink:
            entry["link"] = entry.get("guid", "")
        if not entry.get("guid"):
            # What expires would make it another episode on every poll.
            files = [lasting_address(enclosure["url"]) for enclosure in audio_of(entry)]
            entry["guid"] = next(iter(files), entry["link"])
            if entry["guid"]:
                entry["_notes"] = ("no guid: the address stands for it",)
        entry["notes"] = Notes((entry.pop("_dated", (0, ""))[1], *entry.pop("_notes", ()))).listed()
        if not entry["guid"]:
            self.notes.add("an entry left out: it has neither guid nor address")
            self.episodes.pop()
        elif len(self.episodes) > 1_000 + 2 * self.max_episodes:
            self.episodes[:] = self.newest()


def audio_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The enclosures that may be audio; all of them where none is."""
    listed: list[dict[str, Any]] = entry["enclosures"]
    audio = [e for e in listed if not is_other_than_audio(e["mime_type"], e["url"])]
    return audio or ([] if entry["link"] else listed)
