"""Subscriptions: which feeds are followed, as settings and OPML files name them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from xml.parsers import expat

import listparser

from streams.ingest.core.episodes import PODCASTINDEX, RSS, web_address
from streams.ingest.core.xml_mending import mended_xml
from streams.text.notes import Notes
from streams.text.plain_text import one_line

_SECURE_SCHEMES = ("feeds", "itpcs", "pcasts", "podcasts", "itms-pcasts", "itms-podcasts")
_FEED_SCHEMES = (
    *("feed", "itpc", "pcast", "podcast", "rss", "itms-pcast", "itms-podcast"),
    *_SECURE_SCHEMES,
)
_FEED_TYPES = ("rss", "atom", "podcast", "feed", "rss1", "rss2")
_LIST_CLOSED = re.compile(rb"</(?:body|opml)\s{0,9}>\s{0,999}\Z", re.I)
_LIST_ENDS = re.compile(rb"</(?:body|opml)\s{0,9}>", re.I)
_OUTLINE_END = re.compile(rb"</outline\s{0,9}>", re.I)
_OUTLINE = re.compile(rb"<outline\b((?>(?:[^<>\"']|\"[^\"]*+\"|'[^']*+')*))(?<!/)/?>", re.I)
_PLACE = re.compile(r"[^/]*//[^/?#]*")
_INNER = re.compile(r"/{0,3}(https?)(?::|%3a)?/{1,3}", re.I)

Subscription = dict[str, Any]
"""A `feed_subscription` record."""

BY_SETTINGS = "settings"
BY_OPML = "opml"


class OpmlError(ValueError):
    """A file that is no list of feeds; the text says why."""


def subscription(url: str, source: str, added_by: str, title: str = "") -> Subscription:
    """A subscription without wishes: any language, any category, the usual interval."""
    return {
        "url": url,
        "source": source,
        "title": title,
        "languages": [],
        "categories": [],
        "interval_s": None,
        "added_by": added_by,
    }


def problem_of(record: Mapping[str, Any], key: str) -> str:
    """Why a record under a key is no subscription; empty if it is one."""
    if record["url"] != key:
        return f"the key {key[:200]!r} is not the url {record['url'][:200]!r}"
    if record["source"] not in (RSS, PODCASTINDEX):
        return f"source {record['source'][:200]!r} is neither {RSS} nor {PODCASTINDEX}"
    if record["source"] == RSS and web_address(record["url"]) != (record["url"] or None):
        return f"{record['url'][:200]!r} is no address of a feed"
    if record["source"] == PODCASTINDEX and not record["url"].startswith(PODCASTINDEX):
        return f"the name of a part of the index begins with {PODCASTINDEX}"
    if record["interval_s"] is not None and record["interval_s"] < 1:
        return "interval_s is less than a second"
    return ""


def changes_of_settings(
    known: Mapping[str, Mapping[str, Any]], feed_urls: Iterable[str], index: bool
) -> dict[str, Subscription | None]:
    """What to announce, by URL, so that what the settings name is followed and no more of theirs.

    ``known`` is what is followed already: what others added stays as it is.
    """
    wanted = dict.fromkeys(feed_urls, RSS) | ({PODCASTINDEX: PODCASTINDEX} if index else {})
    changes: dict[str, Subscription | None] = {
        url: subscription(url, source, BY_SETTINGS)
        for url, source in wanted.items()
        if url not in known
    }
    for url, record in known.items():
        if record["added_by"] == BY_SETTINGS and url not in wanted:
            changes[url] = None
    return changes


def feed_address(value: str) -> str:
    """The address of a feed as http or https; empty if it is none.

    Buttons for subscribing write schemes of their own, with the address behind them or in them:
    `feed://host/`, `feed:https://host/`, `itpc://host/`.
    """
    text = value.strip()
    scheme, colon, rest = text.partition(":")
    plain = scheme.lower()
    if colon and plain in _FEED_SCHEMES:
        # `feed://https//host/` is what becomes of it where a colon was lost on the way.
        inner = _INNER.match(rest)
        secure = inner[1].lower() == "https" if inner else plain in _SECURE_SCHEMES
        place = rest[inner.end() :] if inner else rest
        text = f"{'https' if secure else 'http'}://{place.lstrip('/')}"
    return web_address(text)


def subscriptions_of_opml(
    body: bytes, notes: Notes | None = None
) -> tuple[list[Subscription], list[tuple[int, str]]]:
    """The feeds of an OPML file, each once, nested outlines too; and which are none, and why.

    Those that are none come with their place among the addresses, 1 being the first.

    Other lists that the file links to are not read. OpmlError if the file is no OPML, or broken
    beyond what publishers usually get wrong (ampersands, encodings, what follows the end); one cut
    short is refused, or half a list would seem whole. ``notes`` is told what was mended.
    """
    notes = Notes() if notes is None else notes
    mended = _well_formed(mended_xml(body, notes), notes)
    found = listparser.parse(mended)
    if not found["version"].startswith("opml"):
        raise OpmlError("no OPML: it does not begin with <opml>")
    feeds: list[Subscription] = []
    refused: list[tuple[int, str]] = []
    seen: set[str] = set()
    for number, entry in enumerate(found["feeds"], 1):
        if url := feed_address(entry["url"]):
            # Written with blanks around it, or in capitals, the same address looks like another.
            key = _PLACE.sub(lambda place: place[0].lower(), url, count=1)
            if key in seen:
                continue
            seen.add(key)
            feeds.append(subscription(url, RSS, BY_OPML, one_line(entry["title"])))
        else:
            refused.append((number, f"{entry['url'][:200]!r} is no address of a feed"))
    return feeds, refused


def _well_formed(mended: bytes, notes: Notes) -> bytes:
    """The XML up to its end. OpmlError if it has none."""
    try:
        return _up_to_end(mended, notes)
    except expat.ExpatError as error:
        # It is whole where the list itself is closed, whatever is not closed in it.
        if not _LIST_CLOSED.search(mended):
            raise OpmlError(f"no XML: {error}") from error
        flat = _OUTLINE.sub(rb"<outline\1/>", _OUTLINE_END.sub(b"", mended))
        flat = _LIST_ENDS.sub(b"", flat) + b"</body></opml>"
        try:
            whole = _up_to_end(flat, notes)
        except expat.ExpatError:
            raise OpmlError(f"no XML: {error}") from error
        notes.add("end tags that are missing were added")
        return whole


def _up_to_end(mended: bytes, notes: Notes) -> bytes:
    parser = expat.ParserCreate()
    depth = ended = nameless = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, nameless
        depth += 1
        said = {key.lower(): value for key, value in attributes.items()}
        if name.lower() == "outline" and said.get("type", "").lower() in _FEED_TYPES:
            nameless += not said.get("xmlurl")

    def end(*_: object) -> None:
        nonlocal depth, ended
        depth -= 1
        if not depth:
            ended = mended.find(b">", parser.CurrentByteIndex) + 1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(mended, True)
    except expat.ExpatError:
        if not ended:
            raise
        notes.add("what follows the end of the list was passed over")
        mended = mended[:ended]
    if nameless:
        notes.add(f"{nameless} outlines of feeds have no xmlUrl")
    return mended
