"""Subscriptions: which feeds are followed, as settings and OPML files name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from xml.parsers import expat

import listparser

from streams.ingest.core.episodes import PODCASTINDEX, RSS, web_address
from streams.ingest.core.xml_mending import mended_xml
from streams.text.plain_text import one_line

Subscription = dict[str, Any]
"""A `feed_subscription` record."""

BY_SETTINGS = "settings"
BY_OPML = "opml"


class OpmlError(ValueError):
    """A file that is no list of feeds; the text says why."""


def subscription(url: str, source: str, added_by: str, title: str = "") -> Subscription:
    """A subscription that asks for nothing in particular."""
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


def subscriptions_of_opml(body: bytes) -> tuple[list[Subscription], list[tuple[int, str]]]:
    """The feeds of an OPML file, each once, nested outlines too; and which are none, and why.

    Those that are none come with their place among the addresses, 1 being the first.

    Other lists that the file links to are not read. OpmlError if the file is no OPML, or broken
    beyond what publishers usually get wrong (ampersands, encodings).
    """
    mended = mended_xml(body)
    try:
        expat.ParserCreate().Parse(mended, True)
    except expat.ExpatError as error:
        raise OpmlError(f"no XML: {error}") from error
    found = listparser.parse(mended)
    if not found["version"].startswith("opml"):
        raise OpmlError("no OPML: it does not begin with <opml>")
    feeds: list[Subscription] = []
    refused: list[tuple[int, str]] = []
    seen: set[str] = set()
    for number, entry in enumerate(found["feeds"], 1):
        if url := web_address(entry["url"]):
            if url in seen:  # written with blanks around it, the same address looks like another
                continue
            seen.add(url)
            feeds.append(subscription(url, RSS, BY_OPML, one_line(entry["title"])))
        else:
            refused.append((number, f"{entry['url'][:200]!r} is no address of a feed"))
    return feeds, refused
