from __future__ import annotations

from typing import Any

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import files
from streams.ingest.core.subscriptions import (
    OpmlError,
    changes_of_settings,
    feed_address,
    problem_of,
    subscription,
    subscriptions_of_opml,
)
from streams.text.notes import Notes

NESTED = """<?xml version="1.0" encoding="UTF-8"?>
<opml version="2.0"><head><title>Mine</title></head><body>
<outline text="Science"><outline text="A &amp; B" type="rss" xmlUrl="https://a.example/f?x=1&amp;y"/>
  <outline text="Deeper"><outline title="B" xmlurl="http://b.example/"/></outline></outline>
<outline text="A again" xmlUrl="https://a.example/f?x=1&amp;y"/>
<outline text="only a title"/><outline text="none" xmlUrl=""/>
<outline text="ftp" xmlUrl="ftp://c.example/"/></body></opml>"""


def listed(body: str | bytes) -> list[tuple[str, str]]:
    feeds, _ = subscriptions_of_opml(body if isinstance(body, bytes) else body.encode())
    for feed in feeds:
        assert fastavro.validate(feed, files.parsed("feed_subscription"), raise_errors=True)
        assert problem_of(feed, feed["url"]) == ""
    return [(feed["url"], feed["title"]) for feed in feeds]


def test_nested_outlines_are_read_and_repeats_count_once() -> None:
    assert listed(NESTED) == [("https://a.example/f?x=1&y", "A & B"), ("http://b.example/", "B")]
    _, refused = subscriptions_of_opml(NESTED.encode())
    assert refused == [(3, "'ftp://c.example/' is no address of a feed")]


OPML = '<opml><body><outline text="é" xmlUrl="https://a.example/"/></body></opml>'


@pytest.mark.parametrize(
    "body",
    [
        OPML.encode(),
        b"\xef\xbb\xbf" + OPML.encode(),
        b"\n  " + OPML.encode(),
        ('<?xml version="1.0" encoding="ISO-8859-1"?>' + OPML).encode("latin-1"),
        ('<?xml version="1.0" encoding="UTF-16"?>' + OPML).encode("utf-16"),
        OPML.replace('text="é"', 'TITLE="é"').replace("xmlUrl", "XMLURL").encode(),
    ],
)
def test_files_are_read_as_apps_write_them(body: bytes) -> None:
    assert listed(body) == [("https://a.example/", "é")]


def test_an_ampersand_as_it_is_does_not_cost_the_file() -> None:
    body = '<opml><body><outline text="A & B" xmlUrl="https://a.example/?x=1&y=2"/></body></opml>'
    assert listed(body) == [("https://a.example/?x=1&y=2", "A & B")]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("", "no XML: no element found"),
        ("https://a.example/list.opml", "no XML"),
        ("<html><body><p>Not found</p></body></html>", "no OPML"),
        ("<rss><channel><title>A feed</title></channel></rss>", "no OPML"),
        (OPML[:60], "no XML: unclosed token"),
    ],
)
def test_a_file_that_is_no_opml_is_one_error(body: str, why: str) -> None:
    with pytest.raises(OpmlError, match=why):
        subscriptions_of_opml(body.encode())


@example(junk=b"\t", start=168, end=168)  # a tab in front of the first address
@given(st.binary(max_size=300), st.integers(0, len(NESTED)), st.integers(0, len(NESTED)))
def test_whatever_is_in_a_file_it_is_read_or_refused(junk: bytes, start: int, end: int) -> None:
    body = NESTED.encode()
    for damaged in (junk, body[:start] + junk + body[end:]):
        try:
            feeds, _ = subscriptions_of_opml(damaged)
        except OpmlError:
            continue
        assert len({feed["url"] for feed in feeds}) == len(feeds)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"interval_s": 60}, ""),
        ({"interval_s": 0}, "less than a second"),
        ({"source": "itunes"}, "neither rss nor podcastindex"),
        ({"source": "podcastindex"}, "begins with podcastindex"),
        ({"url": "https://b.example/"}, "is not the url"),
    ],
)
def test_what_is_no_subscription(changes: dict[str, Any], problem: str) -> None:
    record = subscription("https://a.example/", "rss", "me") | changes
    assert problem in problem_of(record, "https://a.example/")
    assert bool(problem) == bool(problem_of(record, "https://a.example/"))


def test_addresses_and_names_of_the_index() -> None:
    index = subscription("podcastindex news", "podcastindex", "me")
    assert problem_of(index, "podcastindex news") == ""
    for url in ("file:///etc/passwd", " https://a.example/", "https://", ""):
        feed = subscription(url, "rss", "me")
        assert problem_of(feed, url) == f"{url!r} is no address of a feed"


def test_the_settings_say_what_they_add_and_end() -> None:
    first = changes_of_settings({}, ["https://a.example/", "https://b.example/"], True)
    assert list(first) == ["https://a.example/", "https://b.example/", "podcastindex"]
    known = {url: record for url, record in first.items() if record is not None}
    assert changes_of_settings(known, ["https://a.example/", "https://b.example/"], True) == {}
    known["https://c.example/"] = subscription("https://c.example/", "rss", "opml")
    assert changes_of_settings(known, ["https://b.example/", "https://c.example/"], False) == {
        "https://a.example/": None,
        "podcastindex": None,
    }


@pytest.mark.parametrize(
    ("written", "address"),
    {
        "feed://a.example/rss": "http://a.example/rss",
        "feed:https://a.example/rss": "https://a.example/rss",
        "feed://https//a.example/rss": "https://a.example/rss",
        "FEED://http://a.example/rss?x=1": "http://a.example/rss?x=1",
        "itpc://a.example/rss": "http://a.example/rss",
        "pcast:a.example/rss": "http://a.example/rss",
        "itms-pcasts://a.example/rss": "https://a.example/rss",
        "podcast://a.example/rss": "http://a.example/rss",
        "https://a.example/rss": "https://a.example/rss",
        "ftp://a.example/rss": "",
        "feed:": "",
        "javascript:alert(1)": "",
    }.items(),
)
def test_schemes_of_subscribe_buttons(written: str, address: str) -> None:
    assert feed_address(written) == address


def test_what_follows_the_end_of_a_list_is_passed_over() -> None:
    notes = Notes()
    assert subscriptions_of_opml(f"{OPML}<script>".encode(), notes) == subscriptions_of_opml(
        OPML.encode()
    )
    assert notes.listed() == ["what follows the end of the list was passed over"]


BODY = '<opml><body><outline text="A">{}</outline></body></opml>'
FEED = '<outline text="B" xmlUrl="https://b.example/?x=&apos;"/>'
ONE = [("https://b.example/?x='", "B")]


@pytest.mark.parametrize(
    "body",
    [
        BODY.format(FEED).replace("</outline>", ""),
        BODY.format(FEED).replace("</opml>", ""),
        BODY.format(FEED).replace("</outline></body>", ""),
        BODY.format(FEED.replace("/>", ">")) + "\n",
        BODY.format(FEED.replace("/>", ">")).replace("</outline>", "").replace("</body>", ""),
    ],
)
def test_missing_end_tags_are_added_where_the_list_is_whole(body: str) -> None:
    notes = Notes()
    feeds, refused = subscriptions_of_opml(body.encode(), notes)
    assert ([(feed["url"], feed["title"]) for feed in feeds], refused) == (ONE, [])
    assert notes.listed() == ["end tags that are missing were added"]


@pytest.mark.parametrize("end", ["", "</outline>", '<outline text="C" xmlU'])
def test_a_list_that_is_cut_short_is_refused(end: str) -> None:
    with pytest.raises(OpmlError, match="no XML"):
        subscriptions_of_opml(f'<opml><body><outline text="A">{FEED}{end}'.encode())


def test_outlines_of_feeds_without_an_address_are_noted() -> None:
    outline = '<outline text="A" type="rss" htmlUrl="https://a.example/"/>'
    notes = Notes()
    assert subscriptions_of_opml(BODY.format(outline + FEED).encode(), notes)[1] == []
    assert notes.listed() == ["1 outlines of feeds have no xmlUrl"]


def test_an_address_in_capitals_counts_once_with_the_one_in_small_letters() -> None:
    again = FEED.replace("https://b.example", "HTTPS://B.example")
    assert listed(BODY.format(FEED + again)) == ONE
    assert listed(BODY.format(FEED + FEED.replace("/?x", "/?X")))[1:] != []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
def test_wide_encodings_keep_every_letter(encoding: str) -> None:
    body = BODY.format(FEED.replace('"B"', '"Приливы"'))
    mark = "" if encoding != "utf-16-le" else "\ufeff"
    assert listed((mark + body).encode(encoding)) == [(ONE[0][0], "Приливы")]
