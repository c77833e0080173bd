from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import files
from streams.ingest.core.episodes import (
    EpisodeError,
    categories,
    episode_from_podcastindex,
    episode_from_rss,
    language_tag,
    podcastindex_ref,
    seconds,
    utc_time,
)
from streams.text.plain_text import plain_text

ITEM = {
    "id": 16795090,
    "title": "Batman &amp; Robin",
    "link": "https://example.com/1",
    "description": "<p>First</p><script>alert(1)</script><p>Second <b>bold</b> &ndash; end</p>",
    "guid": "abc",
    "datePublished": 1546399813,
    "enclosureUrl": "https://example.com/1.mp3",
    "duration": 3600,
    "explicit": 1,
    "season": 0,
    "episode": 3,
    "episodeType": "Bonus",
    "persons": [
        {"name": "Bruce &amp; Dick", "role": "Host", "href": "https://example.com/b", "img": ""},
        {"name": "Alfred", "role": "guest", "href": "javascript:x", "img": None},
        {"name": "Bruce &amp; Dick", "role": "host"},
        {"name": " ", "role": "guest"},
    ],
    "chaptersUrl": "https://example.com/1/chapters.json",
    "podcastGuid": "917393E3-1B1E-5CEF-ACE4-EDAA54E1F810",
    "image": "",
    "feedImage": "https://example.com/show.jpg",
    "feedId": 75075,
    "feedTitle": "Batman University",
    "feedLanguage": "en_US",
    "transcriptUrl": "https://example.com/1.srt",
    "transcripts": [
        {"url": "https://example.com/1.vtt", "type": "text/vtt"},
        {"url": "ftp://example.com/1.txt", "type": "text/plain"},
        None,
    ],
}
FEED = {"id": 75075, "categories": {"104": "Tv", "105": "Film"}}

ENTRY = (
    *("title", "description", "published", "total_time", "explicit", "link", "enclosures"),
    *("language", "season", "number", "type", "persons", "transcripts", "chapters_link"),
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def fits_schema(record: dict[str, Any], name: str) -> bool:
    return fastavro.validate(record, files.parsed(name), raise_errors=True)


def test_a_full_item_becomes_an_episode() -> None:
    record = episode_from_podcastindex(ITEM, FEED)
    assert fits_schema(record, "episode")
    assert record == {
        "episode_id": "pi:16795090",
        "title": "Batman & Robin",
        "show_id": "pi:75075",
        "show_title": "Batman University",
        "description": "First\nSecond bold \u2013 end",
        "categories": ["Tv", "Film"],
        "language": "en-us",
        "published_at": datetime(2019, 1, 2, 3, 30, 13, tzinfo=UTC),
        "duration_s": 3600,
        "explicit": True,
        "enclosure_url": "https://example.com/1.mp3",
        "image_url": "https://example.com/show.jpg",
        "link": "https://example.com/1",
        "guid": "abc",
        "transcripts": [
            {"url": "https://example.com/1.vtt", "type": "text/vtt", "language": ""},
            {"url": "https://example.com/1.srt", "type": "", "language": ""},
        ],
        "source": "podcastindex",
        "season": None,
        "number": 3,
        "episode_type": "bonus",
        "persons": [
            {"name": "Bruce & Dick", "role": "host", "href": "https://example.com/b", "image": ""},
            {"name": "Alfred", "role": "guest", "href": "", "image": ""},
        ],
        "chapters_url": "https://example.com/1/chapters.json",
        "chapters_type": "",
        "feed_guid": "917393e3-1b1e-5cef-ace4-edaa54e1f810",
        "notes": [],
    }


def test_an_item_of_which_little_is_known_is_still_an_episode() -> None:
    record = episode_from_podcastindex({"id": "7", "feedId": "8", "duration": None}, None)
    assert fits_schema(record, "episode")
    assert (record["title"], record["duration_s"], record["categories"]) == ("Episode 7", None, [])


@pytest.mark.parametrize("item", [{}, {"id": 1}, {"feedId": 1}, {"id": True, "feedId": 1}])
def test_an_item_without_ids_is_refused(item: dict[str, Any]) -> None:
    with pytest.raises(EpisodeError):
        episode_from_podcastindex(item)
    with pytest.raises(EpisodeError):
        podcastindex_ref(item, "recent", datetime.now(UTC))


@given(st.dictionaries(st.sampled_from([*ITEM, "categories"]), anything), anything)
def test_whatever_an_index_sends_fits_the_schema(values: dict[str, Any], named: object) -> None:
    item = {**ITEM, **values, "id": 1, "feedId": 2}
    record = episode_from_podcastindex(item, {"categories": named})
    assert fits_schema(record, "episode")
    for text in (record["title"], record["description"], record["guid"], *record["categories"]):
        text.encode()


@given(st.dictionaries(st.sampled_from(ENTRY), anything))
def test_whatever_a_feed_holds_fits_the_schema(entry: dict[str, Any]) -> None:
    feed = {"title": "Show", "language": "de", "itunes_categories": [["Arts", "Books"]]}
    record = episode_from_rss("https://example.com/feed", feed, {**entry, "guid": "g"})
    assert fits_schema(record, "episode")
    assert record["categories"] == ["Arts", "Books"]
    assert record["episode_id"].startswith("rss:")


def test_rss_ids_depend_on_feed_and_guid() -> None:
    one = episode_from_rss("https://a.example/feed", {}, {"guid": "1"})
    other = episode_from_rss("https://b.example/feed", {}, {"guid": "1"})
    assert one["episode_id"] != other["episode_id"]
    assert one["show_id"] != other["show_id"]
    with pytest.raises(EpisodeError):
        episode_from_rss("https://a.example/feed", {}, {})


@pytest.mark.parametrize(
    ("value", "tag"),
    [("en", "en"), ("EN_us", "en-us"), ("zh-Hant-TW", "zh-hant-tw"), ("english", ""), (None, "")],
)
def test_language_tags(value: object, tag: str) -> None:
    assert language_tag(value) == tag


def test_a_transcript_keeps_the_language_that_the_feed_gives_it() -> None:
    for said, kept in (("en_GB", "en-gb"), ("Klingon", ""), (None, ""), (7, "")):
        links = [{"url": "https://a.example/1.vtt", "type": "text/vtt", "language": said}]
        record = episode_from_rss("https://a.example/", {}, {"guid": "1", "transcripts": links})
        assert record["transcripts"] == [{**links[0], "language": kept}]


def test_the_largest_record_fits_into_a_message() -> None:
    wide = "\N{FISH}" * 30_000
    address = f"https://pods.example/{wide}"
    links = [{"url": f"{address[:3_900]}{n}", "type": wide} for n in range(100)]
    people = [{"name": f"{n}{wide}", "role": wide, "href": address[:999]} for n in range(100)]
    names = dict.fromkeys(("title", "feedTitle", "description", "guid", "feedLanguage"), wide)
    addresses = ("enclosureUrl", "image", "link", "chaptersUrl")
    item = {**names, **dict.fromkeys(addresses, address[:3_999]), "id": 1, "feedId": 2}
    item |= {"transcripts": links, "persons": [{**one, "img": one["href"]} for one in people]}
    record = episode_from_podcastindex(item, {"categories": [f"{n}{wide}" for n in range(300)]})
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, files.parsed("episode"), record)
    assert [len(record[name]) for name in ("transcripts", "persons", "categories")] == [20, 20, 50]
    # Twice framed, with some more around it, it must still be shorter than what a broker takes.
    assert 700_000 < buffer.tell() < 950_000


def test_numbers_that_mean_nothing_are_none() -> None:
    assert [utc_time(v) for v in (0, None, -5, "soon", 10**15)] == [None] * 5
    assert [seconds(v) for v in (0, None, -1, 10**9, float("nan"))] == [None] * 5
    assert seconds("61") == 61


def test_categories_of_any_shape() -> None:
    assert categories({"1": "Arts", "2": "Arts", "3": ""}) == ["Arts"]
    assert categories(None) == categories("Arts") == []


def test_text_without_markup_keeps_its_signs() -> None:
    assert plain_text("a < b\x00 and\tc > d\r\n\r\nnew") == "a < b and c > d\nnew"


def test_markup_nested_without_end_costs_no_time_and_loses_no_text() -> None:
    bomb = "<div>" * 30_000 + "found"
    assert plain_text(bomb).strip() == "found"


def test_records_written_before_links_had_languages_are_read() -> None:
    new = episode_from_podcastindex(ITEM, FEED)
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, files.parsed("episode", 2), new)
    buffer.seek(0)
    old = fastavro.schemaless_reader(buffer, files.parsed("episode", 2), files.parsed("episode"))
    assert isinstance(old, dict)
    assert old["transcripts"] == new["transcripts"] != []


def test_what_the_index_says_in_vain_is_noted() -> None:
    item = {
        "id": 1,
        "feedId": 7,
        "datePublished": "soon",
        "duration": 99_999_999,
        "enclosureUrl": "ftp://x",
        "feedLanguage": "English",
        "season": 0,
        "episode": None,
        "episodeType": "",
    }
    assert episode_from_podcastindex(item)["notes"] == [
        "published_at left out: 'soon'",
        "duration_s left out: 99999999",
        "enclosure_url left out: 'ftp://x'",
        "language left out: 'English'",
    ]
    assert episode_from_podcastindex({"id": 1, "feedId": 7})["notes"] == []


def test_titles_are_cut_and_that_is_noted() -> None:
    long, longest = "y" * 301, "n" * 300
    item = {"id": 1, "feedId": 7, "title": long, "feedTitle": longest}
    feed, entry = {"title": long}, {"guid": "g", "title": longest}
    for record, cut, whole in (
        (episode_from_podcastindex(item), "title", "show_title"),
        (episode_from_rss("https://a.example/", feed, entry), "show_title", "title"),
    ):
        assert (record[cut], record[whole]) == ("y" * 300, longest)
        assert record["notes"] == [f"{cut} cut to 300 characters"]
