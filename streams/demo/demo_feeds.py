"""The demo catalogue as RSS feeds with the podcast namespace, and as an OPML list of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from email.utils import formatdate
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from streams.demo.demo_catalogue import DemoEpisode, DemoShow
from streams.demo.demo_publisher import Publisher
from streams.demo.demo_shapes import (
    NO_CATEGORIES,
    enclosure_url,
    feed_url,
    guid,
    language,
    page_url,
    show_description,
    silence,
    transcript_links,
)

ITUNES = "http://www.itunes.com/dtds/podcast-1.0.dtd"
PODCAST = "https://podcastindex.org/namespace/1.0"

ElementTree.register_namespace("itunes", ITUNES)
ElementTree.register_namespace("podcast", PODCAST)


def write_feed(publisher: Publisher, show: DemoShow, base: str) -> bytes:
    """A show's feed as it is now; ``base`` is the index's own address."""
    root = Element("rss", version="2.0")
    channel = SubElement(root, "channel")
    _text(channel, "title", show.show.title)
    _text(channel, "link", f"https://www.example.com/{show.feed_id}")
    _text(channel, "description", show_description(show))
    _text(channel, "language", language(show))
    _text(channel, f"{{{ITUNES}}}author", " and ".join(show.show.hosts))
    _text(channel, f"{{{ITUNES}}}explicit", str(show.explicit).lower())
    if show.show.title != NO_CATEGORIES:
        for subject in show.subjects:
            SubElement(channel, f"{{{ITUNES}}}category", text=subject.name)
    for episode in publisher.of_feed(show.feed_id):
        _write_item(channel, publisher, show, episode, base)
    return _document(root)


def _write_item(
    channel: Element, publisher: Publisher, show: DemoShow, episode: DemoEpisode, base: str
) -> None:
    item = SubElement(channel, "item")
    _text(item, "title", episode.title)
    _text(item, "link", page_url(episode))
    _text(item, "description", episode.description)
    SubElement(item, "guid", isPermaLink="false").text = guid(episode)
    _text(item, "pubDate", formatdate(publisher.published_at(episode), usegmt=True))
    SubElement(
        item,
        "enclosure",
        url=enclosure_url(episode, base),
        length=str(len(silence())),
        type="audio/wav",
    )
    if episode.duration_s is not None:
        _text(item, f"{{{ITUNES}}}duration", str(episode.duration_s))
    _text(item, f"{{{ITUNES}}}explicit", str(show.explicit).lower())
    if episode.season:
        _text(item, f"{{{PODCAST}}}season", str(episode.season))
    _text(item, f"{{{PODCAST}}}episode", str(episode.number))
    for name in show.show.hosts:
        SubElement(item, f"{{{PODCAST}}}person", role="host").text = name
    for link in transcript_links(episode, base):
        SubElement(item, f"{{{PODCAST}}}transcript", url=link["url"], type=link["type"])


def write_opml(shows: Iterable[DemoShow], base: str) -> bytes:
    """The list of feeds that a podcast player would export."""
    root = Element("opml", version="2.0")
    _text(SubElement(root, "head"), "title", "Shows of the demo index")
    body = SubElement(root, "body")
    for show in shows:
        title = show.show.title
        SubElement(
            body, "outline", type="rss", text=title, title=title, xmlUrl=feed_url(show, base)
        )
    return _document(root)


def entity_tag(body: bytes) -> str:
    """A strong ETag of a body, without its quotes."""
    return hashlib.sha256(body).hexdigest()[:20]


def _text(parent: Element, name: str, text: str) -> None:
    SubElement(parent, name).text = text


def _document(root: Element) -> bytes:
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document
