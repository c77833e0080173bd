"""Whatever bytes a publisher or an index sends, the parsers answer in kind and in time."""

from __future__ import annotations

import json
import time
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import files
from streams.ingest.core.dates import published_time
from streams.ingest.core.episodes import EpisodeError, episode_from_podcastindex, episode_from_rss
from streams.ingest.core.feed_elements import MAX_LISTED
from streams.ingest.core.feeds import FeedError, parse_feed
from streams.ingest.sources.base import SourceError
from streams.ingest.sources.podcastindex_answers import answer_of
from streams.text.plain_text import plain_text
from tests.paths import CORPUS

FEEDS = [path.read_bytes() for path in sorted((CORPUS / "feeds").iterdir())]
ANSWERS = [path.read_bytes() for path in sorted((CORPUS / "podcastindex").iterdir())]
FEED_URL = "https://pods.example/show/feed.xml"
MEGABYTE = 1_000_000
CPU_LIMIT_S = 20.0
"""Far above what a busy machine takes, which is under 7 s, and far below square time."""

pytestmark = pytest.mark.no_cover
"""Measuring branches slows down what is timed here, and chance is no test of a branch."""

PIECES = [
    b"<", b">", b"</item>", b"<item>", b"<guid>", b"]]>", b"<![CDATA[", b"&", b"&#0;",
    b"&#x110000;", b"&nbsp;", b"\0", b"\xff", b"\xc3", b"<!DOCTYPE rss [", b'<!ENTITY a "b">',
    b"<!--", b"?>", b' xmlns="x"', b' url="http://["', b"9" * 5_000, b"-", b":", b"{", b"}", b"[",
    b"]", b'"', b",", b"null", b"true", b"1e999", b'"\\ud800"', b'"id":1,"feedId":1,',
    b'encoding="utf-7"',
]  # fmt: skip

few = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """A file of the corpus with some stretches replaced by pieces, other stretches, or nothing."""
    body = draw(st.sampled_from(originals))[:20_000]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(start + draw(st.integers(0, 12)), len(body))
        at = draw(st.integers(0, len(body)))
        elsewhere = st.just(body[at : at + 40])
        new = draw(st.sampled_from(PIECES) | elsewhere | st.binary(max_size=4))
        body = body[:start] + new + body[end:]
    return body


def read_feed(body: bytes) -> int:
    """Read a feed as the platform does; how many episodes it has, each of which encodes."""
    try:
        feed = parse_feed(FEED_URL, body, 200)
    except FeedError as error:
        assert str(error)
        return 0
    for entry in feed["episodes"]:
        try:
            encode(episode_from_rss(FEED_URL, feed, entry))
        except EpisodeError as error:
            assert str(error) == "the entry has no guid"
    return len(feed["episodes"])


def read_answer(body: bytes, status: int = 200) -> None:
    try:
        answer = answer_of("route", status, None, body, 1_790_000_000.0)
    except SourceError as error:
        assert str(error).startswith("route: ")
        return
    feed = answer.get("feed")
    items = answer.get("items")
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            try:
                encode(episode_from_podcastindex(item, feed if isinstance(feed, dict) else None))
            except EpisodeError as error:
                assert str(error) == "the episode has no id or no feed"


def encode(record: dict[str, Any]) -> None:
    assert fastavro.validate(record, files.parsed("episode"), raise_errors=True)
    json.dumps(record, default=str, ensure_ascii=False).encode()


@few
@given(st.binary(max_size=300) | st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_no_bytes_raise(body: bytes) -> None:
    read_feed(body)
    read_answer(body)
    read_feed(b"<rss><channel><item><guid>1</guid>" + body + b"</item></channel></rss>")


@few
@given(mutated(FEEDS))
def test_no_mutated_feed_raises(body: bytes) -> None:
    read_feed(body)


@few
@given(mutated(ANSWERS), st.sampled_from([200, 200, 200, 404, 429, 500]))
def test_no_mutated_answer_raises(body: bytes, status: int) -> None:
    read_answer(body, status)


@few
@given(st.text(max_size=40))
def test_no_date_raises(text: str) -> None:
    assert 0 <= published_time(text) < 2**33


def repeated(piece: str, before: str = "", after: str = "") -> bytes:
    return (before + piece * (MEGABYTE // len(piece)) + after).encode()


def inside(tag: str, piece: str) -> bytes:
    """A feed whose only item has an element full of ``piece``."""
    head = f"<rss><channel><item><guid>1</guid><{tag}>"
    return repeated(piece, f"{head}<![CDATA[", f"]]></{tag}></item></channel></rss>")


CHANNEL = "<rss><channel>"
HOSTILE = {
    "open tags in text": (inside("description", "<a "), 1),
    "signs in text": (inside("description", "<"), 1),
    "half breaks in text": (inside("description", "<br"), 1),
    "tags that never close": (inside("description", "<div></x>"), 1),
    "blank lines": (inside("description", " \n"), 1),
    "brackets as a date": (inside("pubDate", "1 ("), 1),
    "digits as a duration": (inside("duration", "1"), 1),
    "digits as a guid": (inside("guid", "1"), 1),
    "episodes": (repeated("<item><guid>1</guid></item>", CHANNEL, "</channel></rss>"), 200),
    "depth": (repeated("<a>", CHANNEL), 0),
    "depth of namespaces": (repeated('<a xmlns="x">', CHANNEL), 0),
    "entities": (repeated("&a;", '<!DOCTYPE rss [<!ENTITY a "' + "b" * 32 + '">]><rss>'), 0),
    "ampersands": (repeated("&x", CHANNEL), 0),
    "open sections": (repeated("<![CDATA[", "<rss>"), 0),
    "declarations": (repeated("<?xml "), 0),
    "nothing": (repeated("\x00"), 0),
    "lines of another encoding": (b"<rss>" + b"\xff\n" * (MEGABYTE // 2), 0),
}


@pytest.mark.parametrize(("body", "episodes"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_megabyte_is_read_in_time(body: bytes, episodes: int) -> None:
    started = time.process_time()
    assert read_feed(body) == episodes
    assert time.process_time() - started < CPU_LIMIT_S


def of_show(head: str) -> bytes:
    """A feed whose show says ``head``, which may go into each of its 200 episodes."""
    items = "".join(f"<item><guid>{n}</guid></item>" for n in range(200))
    named = 'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"'
    named += ' xmlns:podcast="https://podcastindex.org/namespace/1.0"'
    return f"<rss {named}><channel>{head}{items}</channel></rss>".encode()


LONG = "a\x7f" * (MEGABYTE // 2)
PERSON = "<podcast:person>" + "&lt;b>" * (MEGABYTE // 100) + "</podcast:person>"
BASED = f'<rss xml:base="https://x.y/{"a/" * (MEGABYTE // 2)}"><channel><item><guid>1</guid>'
REPEATED = {
    "title": of_show(f"<title>{LONG}</title>"),
    "picture": of_show(f'<itunes:image href="https://{LONG}"/>'),
    "guid": of_show(f"<podcast:guid>{LONG}</podcast:guid>"),
    "persons": of_show(PERSON * 20),
    "categories": of_show('<itunes:category text="a"/>' * (MEGABYTE // 27)),
    "base": (BASED + '<enclosure url="a"/>' * 4_000 + "</item></channel></rss>").encode(),
    "default of an attribute": repeated(
        "<a/>", f'<!DOCTYPE rss [<!ATTLIST a d CDATA "{"x" * 60_000}">]><rss><channel>'
    ),
}


@pytest.mark.parametrize("body", REPEATED.values(), ids=REPEATED)
def test_nothing_long_is_read_again_and_again(body: bytes) -> None:
    started = time.process_time()
    read_feed(body)
    assert time.process_time() - started < CPU_LIMIT_S


def test_lists_of_an_episode_are_bounded_while_they_are_read() -> None:
    item = '<enclosure url="a"/><podcast:transcript url="b"/>' * 1_000
    (entry,) = parse_feed("https://a.example/", of_item(item), 5)["episodes"]
    assert len(entry["enclosures"]) == len(entry["transcripts"]) == MAX_LISTED


def of_item(text: str) -> bytes:
    named = 'xmlns:podcast="https://podcastindex.org/namespace/1.0"'
    return f"<rss {named}><channel><item><guid>1</guid>{text}</item></channel></rss>".encode()


@pytest.mark.parametrize("piece", ["[", '{"a":', '"\\ud800', "1", '{"status":"true"}', "\\"])
def test_a_hostile_answer_is_read_in_time(piece: str) -> None:
    started = time.process_time()
    read_answer(repeated(piece))
    read_answer(repeated(piece, '{"status":"true","items":[{"id":1,"feedId":1,"title":"'))
    assert time.process_time() - started < CPU_LIMIT_S


@pytest.mark.parametrize(
    "piece", ["<div></x>", "<b><p></b>", "<table><b>", "&amp", "<!--", "<p a", "<div><!--</div>-->"]
)
def test_hostile_markup_is_read_in_time(piece: str) -> None:
    started = time.process_time()
    plain_text(repeated(piece).decode())
    assert time.process_time() - started < CPU_LIMIT_S
