from __future__ import annotations

import json
import time
from typing import Any

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import files
from streams.demo.demo_catalogue import FIRST_EPISODE_ID, build_catalogue
from streams.demo.demo_transcripts import RENDERINGS
from streams.transcripts.core.transcripts import (
    MAX_RECORD_BYTES,
    format_of,
    no_transcript,
    rank_links,
    transcript_record,
)

EPISODE = {"episode_id": "pi:1", "language": "en"}
MIMES = ["text/vtt", "application/srt", "application/json", "text/html", "text/plain", "", "x/y"]


def read(
    body: bytes | str, mime: str, url: str = "https://example.com/t", **kwargs: str
) -> dict[str, Any]:
    raw = body.encode() if isinstance(body, str) else body
    record = transcript_record(EPISODE, {"url": url, "type": mime}, raw, **kwargs)
    assert fastavro.validate(record, files.parsed("transcript"), raise_errors=True)
    record["text"].encode()
    return record


def spoken(record: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(s["start_ms"], s["end_ms"], s["speaker"], s["text"]) for s in record["segments"]]


def test_vtt_with_voices_entities_and_unclosed_tags() -> None:
    record = read(
        "WEBVTT - a title\n\nNOTE nothing\n\n1\n00:01.000 --> 00:02.500 align:start\n"
        "<v Ann>Hi &amp; <b>you\n\n00:00:03.000 --> 00:00:04.000\n<v.loud Bob>yo</v> <v Ann>hey\n",
        "text/vtt",
    )
    assert (record["status"], record["format"]) == ("ok", "vtt")
    assert spoken(record) == [
        (1000, 2500, "Ann", "Hi & you"),
        (3000, 4000, "Bob", "yo"),
        (3000, 4000, "Ann", "hey"),
    ]
    assert record["text"] == "Hi & you\nyo\nhey"


def test_srt_speakers_carry_over() -> None:
    record = read(
        "\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\nAnneke de Vries: hi\r\n\r\n"
        "2\r\n00:00:03,000 --> 00:00:04,000\r\nso here is it: more\r\n\r\n"
        "3\r\n00:00:05,000 --> 00:00:06,000\r\nBob: <i>yes</i>\r\n",
        "application/x-subrip",
    )
    assert spoken(record) == [
        (1000, 2000, "Anneke de Vries", "hi"),
        (3000, 4000, "Anneke de Vries", "so here is it: more"),
        (5000, 6000, "Bob", "yes"),
    ]


@pytest.mark.parametrize(
    ("cues", "speakers"),
    [
        (["Note: this is none", "so we go on"], ["", ""]),
        (["Hello there", "Https: is no name", "Chapter 3: nor this", "10: 30, nor that"], [""] * 4),
        (["We say", "Never: forget it", "more"], ["", "", ""]),
        (["Ann: hello", "more", "Warning: hot", "10:30 it was"], ["Ann"] * 4),
        (["la la", "Ann: hello", "Note: this", "Speaker 2: yes"], ["", "Ann", "Ann", "Speaker 2"]),
        (["[Ann]: hi", ">> Bob B: yes"], ["Ann", "Bob B"]),
        (["<v Ann>hi", "Never: forget it"], ["Ann", "Ann"]),
    ],
)
def test_srt_words_before_a_colon(cues: list[str], speakers: list[str]) -> None:
    body = "".join(
        f"{n}\n00:00:{n:02},000 --> 00:00:{n:02},900\n{cue}\n\n" for n, cue in enumerate(cues, 1)
    )
    record = read(body, "application/srt")
    assert [s[2] for s in spoken(record)] == speakers
    if not any(speakers):
        assert [s[3] for s in spoken(record)] == cues


def test_srt_without_numbers() -> None:
    record = read(
        "00:00:01,000 --> 00:00:02,000\nhi\n\n00:00:02,000 --> 00:00:03,500\nyou", "text/srt"
    )
    assert [s[:2] for s in spoken(record)] == [(1000, 2000), (2000, 3500)]


def test_json_of_single_words_becomes_sentences() -> None:
    words = [("A", "One"), ("A", "two."), ("A", "Three"), ("B", "four")]
    segments = [
        {"speaker": name, "startTime": i / 2, "body": word} for i, (name, word) in enumerate(words)
    ]
    record = read(json.dumps({"version": "1.0.0", "segments": segments}), "application/json")
    assert spoken(record) == [
        (0, 500, "A", "One two."),
        (1000, None, "A", "Three"),
        (1500, None, "B", "four"),
    ]
    assert record["text"] == "One two. Three\nfour"


def test_json_of_odd_values() -> None:
    segments = [
        None,
        {"startTime": "0:07", "endTime": float("inf"), "body": "a \ud800 b c d"},
        {"speaker": 5, "startTime": True, "endTime": -1, "body": "e f g h"},
        {"body": 7},
    ]
    record = read(json.dumps({"segments": segments}), "application/json")
    assert spoken(record) == [(7000, None, "", "a ? b c d"), (None, None, "5", "e f g h")]


def test_html_speakers_and_times_around_and_inside_paragraphs() -> None:
    record = read(
        "<html><head><style>p{}</style></head><body><cite>Ann:</cite><time>1:05</time>"
        "<p>Hi <i>there</i></p><p><cite>Bob</cite> <time>1:02:03</time>yes</p></body></html>",
        "text/html",
    )
    assert spoken(record) == [(65_000, None, "Ann", "Hi there"), (3_723_000, None, "Bob", "yes")]


def test_html_speakers_around_paragraphs_and_labels_in_one_another() -> None:
    record = read(
        "<cite>Ann <time>0:01</time></cite><p>One</p><cite></cite><p>two</p>"
        "<p>three <button><p>and four</p></button></p><cite>Bob:<p>five</p>Cy:<p>six</p></cite>",
        "text/html",
    )
    assert spoken(record) == [
        (1000, None, "Ann", "One"),
        (None, None, "", "two"),
        (None, None, "", "three"),
        (None, None, "", "and four"),
        (None, None, "Bob", "five"),
        (None, None, "Cy", "six"),
    ]


@pytest.mark.no_cover  # measuring branches takes time, and this is timed
@pytest.mark.parametrize(
    "piece", ["<div><!--</div>-->", "<p a='</p>'><b>", "<div><object></div></object>", "</b><td>"]
)
def test_html_is_read_in_time_however_it_is_nested(piece: str) -> None:
    started = time.process_time()
    assert read(piece * (300_000 // len(piece)) + "word", "text/html")["text"] == "word"
    assert time.process_time() - started < 5


@pytest.mark.no_cover  # measuring branches takes time, and this is timed
@pytest.mark.parametrize("tag", ["cite", "time", "p><button"])
def test_labels_in_one_another_take_no_longer_the_deeper_they_are(tag: str) -> None:
    page = f"<{tag}>" * 120 + "word\n" * 200_000 + "<p>word word</p>" * 10_000
    started = time.process_time()
    read(page, "text/html")
    assert time.process_time() - started < 5


def test_text_has_no_segments() -> None:
    record = read("Hello there,\n\n  world\n", "text/plain; charset=utf-8")
    assert (record["format"], record["text"], record["segments"]) == (
        "text",
        "Hello there,\nworld",
        [],
    )


def test_the_body_wins_over_what_was_announced() -> None:
    assert read("WEBVTT\n\n00:01.000 --> 00:02.000\nhi", "text/plain")["format"] == "vtt"
    assert read("1\n00:00:01,000 --> 00:00:02,000\nhi", "text/vtt")["format"] == "srt"


@pytest.mark.parametrize(
    ("body", "mime", "why"),
    [
        (b"", "text/vtt", "empty"),
        (b"ID3\x00\x00", "text/plain", "not text"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "text/vtt", "web page"),
        (b"just words", "application/srt", "announced as srt"),
        (b"{]", "application/json", "not JSON"),
        (b'{"segments": 3}', "application/json", "without segments"),
        (b"WEBVTT\n\n", "text/vtt", "no speech"),
        (b"<html><body></body></html>", "text/html", "no speech"),
    ],
)
def test_what_is_no_transcript_says_why(body: bytes, mime: str, why: str) -> None:
    record = read(body, mime)
    assert record["status"] == "failed"
    assert why in record["reason"]
    assert record["text"] == ""


LINKS = [
    {"url": "https://e.com/es.vtt", "type": "text/vtt", "language": "es"},
    {"url": "https://e.com/en.srt", "type": "application/srt", "language": "en-gb"},
    {"url": "https://e.com/any.txt", "type": "text/plain", "language": ""},
    {"url": "https://e.com/old.json", "type": "application/json"},
    {"url": "https://e.com/und.html", "type": "text/html", "language": "und"},
]


@pytest.mark.parametrize(
    ("language", "order"),
    {
        "en": "en.srt old.json und.html any.txt es.vtt",
        "EN-us": "en.srt old.json und.html any.txt es.vtt",
        "es-mx": "es.vtt old.json und.html any.txt en.srt",
        "de": "old.json und.html any.txt es.vtt en.srt",
        "": "es.vtt en.srt old.json und.html any.txt",
        "und": "es.vtt en.srt old.json und.html any.txt",
    }.items(),
)
def test_translations_come_last(language: str, order: str) -> None:
    ranked = rank_links(LINKS, language)
    assert [link["url"].rpartition("/")[2] for link in ranked] == order.split()


def test_the_language_of_a_transcript_is_that_of_its_link() -> None:
    body = b"WEBVTT\n\n00:01.000 --> 00:02.000\nhola"
    for name, language in (("es.vtt", "es"), ("any.txt", "en"), ("und.html", "en"), ("no", "en")):
        link = {"url": f"https://e.com/{name}", "type": "text/vtt"}
        episode = {**EPISODE, "transcripts": LINKS}
        assert transcript_record(episode, link, body)["language"] == language
    assert transcript_record(EPISODE, LINKS[0], body)["language"] == "en"


def test_charsets() -> None:
    assert read("Ünïcödé".encode("utf-16"), "text/plain")["text"] == "Ünïcödé"
    assert read("café".encode("latin-1"), "text/plain")["text"] == "café"
    assert read("слово".encode("koi8-r"), "text/plain", charset="koi8-r")["text"] == "слово"
    assert read("café".encode("latin-1"), "text/plain", charset="no-such")["text"] == "café"


def test_a_text_too_large_for_a_message_is_refused() -> None:
    assert read(b"word " * (MAX_RECORD_BYTES // 5 + 1), "text/plain")["status"] == "refused"
    many = [{"speaker": "s" * 200, "body": "a b c d e"}] * 40_000
    assert read(json.dumps({"segments": many}), "application/json")["status"] == "refused"


def test_the_best_link_comes_first() -> None:
    links = [
        {"url": "https://e.com/a.pdf", "type": "application/pdf"},
        {"url": "https://e.com/a", "type": ""},
        {"url": "https://e.com/a.txt", "type": "text/plain"},
        {"url": "https://e.com/a.json", "type": "application/json"},
        {"url": "https://e.com/a.srt?x=1", "type": "text/plain"},
        {"url": "https://e.com/a.html", "type": "text/html; charset=utf-8"},
        {"url": "https://e.com/b", "type": "TEXT/VTT"},
    ]
    assert [link["url"].rpartition("/")[2] for link in rank_links(links)] == [
        "b",
        "a.srt?x=1",
        "a.json",
        "a.html",
        "a.txt",
        "a",
    ]
    assert format_of("", "http://[broken") == ""


def test_none_is_said_with_a_reason() -> None:
    record = no_transcript(EPISODE, "none", "none is listed")
    assert fastavro.validate(record, files.parsed("transcript"), raise_errors=True)


@pytest.mark.parametrize("offset", range(5))
def test_every_rendering_of_the_demo_is_read_back_word_for_word(offset: int) -> None:
    lines = build_catalogue().episodes[FIRST_EPISODE_ID + 80 * offset].lines
    for name, rendering in RENDERINGS.items():
        for mime in rendering.mimes:
            record = read(rendering.write(lines), mime)
            assert (record["status"], record["format"]) == ("ok", name)
            assert record["text"].split() == " ".join(line.text for line in lines).split()
            speakers = {segment["speaker"] for segment in record["segments"]}
            assert speakers == ({line.speaker for line in lines} if name != "text" else set())


PIECES = [
    "WEBVTT\n\n", "1\n", "\n\n", "00:00:01,000 --> 00:00:02,000\n", "00:01.000 --> 99:99.999\n",
    "<v Ann>", "<v", "&amp;", "&#xd800;", "Ann: ", "<p>", "</p>", "<cite>", "<time>1:02</time>",
    '{"segments":[', '{"startTime":1e400,"body":"x"}', "]}", "\x00", "\ufeff", "-->", "NOTE ",
    "9" * 30, "STYLE\n", "<!--", "\ud7ff", "\u2028",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=8)), st.sampled_from(MIMES))
@example(["WEBVTT\n\n00:99.000 --> 00:99.999\nx"], "text/vtt")
def test_no_text_raises(pieces: list[str], mime: str) -> None:
    record = read("".join(pieces).encode("utf-8", "surrogatepass"), mime)
    assert record["status"] in ("ok", "failed")
    assert (record["status"] == "ok") == bool(record["text"])


@given(st.binary(), st.sampled_from(MIMES), st.sampled_from([None, "utf-16", "rot13", "\0"]))
def test_no_bytes_raise(body: bytes, mime: str, charset: str | None) -> None:
    record = transcript_record(EPISODE, {"url": "u", "type": mime}, body, charset)
    assert fastavro.validate(record, files.parsed("transcript"), raise_errors=True)


@pytest.mark.no_cover  # measuring branches takes time, and this is timed
@pytest.mark.parametrize(
    ("body", "mime"),
    [
        ("<div>" * 200_000, "text/html"),
        ("<p><b>" * 100_000, "text/html"),
        ("[" * 200_000 + "]" * 200_000, "application/json"),
        ("WEBVTT\n\n" + " " * 1_000_000, "text/vtt"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n" + "<v " * 300_000, "text/vtt"),
        ("1\n00:00:01,000 --> 00:00:02,000\n" + "9" * 1_000_000, "application/srt"),
        ("1\n00:00:01,000 --> 00:00:02,000\n" + "A" * 1_000_000, "application/srt"),
        ("00:00:01,000 -->" * 60_000, "application/srt"),
        ("<cite>" * 100_000 + "<p>x", "text/html"),
    ],
)
def test_bodies_made_to_be_slow_are_not(body: str, mime: str) -> None:
    started = time.process_time()
    read(body, mime)
    assert time.process_time() - started < 5
