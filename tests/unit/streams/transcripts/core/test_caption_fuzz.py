"""No bytes make a transcript raise, break the schema or take long."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import fastavro
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import files
from streams.transcripts.core.transcripts import transcript_record
from tests.paths import CORPUS

CAPTIONS = CORPUS / "captions"
BODIES = [path.read_bytes() for path in sorted(CAPTIONS.iterdir())]
MIMES = ["text/vtt", "application/srt", "application/json", "text/html", "text/plain", ""]
CHARSETS = [None, "utf-8", "latin-1", "utf-16", "shift_jis", "punycode", "unicode_escape", "no\0ne"]
MEGABYTE = 1_000_000
CPU_LIMIT_S = 20.0
"""Far above what a busy machine takes, which is under 7 s, and far below square time."""

pytestmark = pytest.mark.no_cover
"""Measuring branches slows down what is timed here, and chance is no test of a branch."""


def read(body: bytes, mime: str, charset: str | None = None) -> dict[str, Any]:
    """The record, after it went through the encoding that is sent."""
    link = {"url": "https://example.com/t", "type": mime}
    record = transcript_record({"episode_id": "pi:1", "language": "en"}, link, body, charset)
    schema = files.parsed("transcript")
    encoded = io.BytesIO()
    fastavro.schemaless_writer(encoded, schema, record)
    encoded.seek(0)
    assert fastavro.schemaless_reader(encoded, schema, None) == record
    return record


def check(body: bytes, charset: str | None) -> None:
    for mime in MIMES:
        record = read(body, mime, charset)
        assert (record["status"] == "ok") == bool(record["text"])
        assert (record["status"] == "ok") == (not record["reason"])
        for segment in record["segments"]:
            start, end = segment["start_ms"], segment["end_ms"]
            assert segment["text"]
            assert start is None or start >= 0
            assert start is None or end is None or end >= start


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A file of the corpus, cut, spliced with another, parts of it doubled, bytes changed."""
    body = bytearray(draw(st.sampled_from(BODIES)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 200)))
        match draw(st.sampled_from(["cut", "drop", "double", "splice", "change"])):
            case "cut":
                del body[start:]
            case "drop":
                del body[start:end]
            case "double":
                body[start:start] = body[start:end] * draw(st.integers(1, 3))
            case "splice":
                other = draw(st.sampled_from(BODIES))
                body[start:end] = other[draw(st.integers(0, len(other))) :]
            case "change":
                body[start:end] = draw(st.binary(max_size=4))
    return bytes(body)


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(CHARSETS))
@example(b"\xff\xfe\x00\xd8", None)
@example(b"\xc3(\xff", "punycode")
def test_arbitrary_bytes_make_a_record(body: bytes, charset: str | None) -> None:
    check(body, charset)


@settings(deadline=None, max_examples=300)
@given(mutations(), st.sampled_from(CHARSETS))
def test_damaged_transcripts_make_a_record(body: bytes, charset: str | None) -> None:
    check(body, charset)


VTT, SRT = "WEBVTT\n\n00:01.000 --> 00:02.000\n", "1\n00:00:01,000 --> 00:00:02,000\n"
SEGMENT = json.dumps({"startTime": 1, "body": "a b c d"})


@pytest.mark.parametrize(
    ("head", "repeated", "tail"),
    [
        (VTT, "<", ""),
        (VTT, "<v a", ""),
        (VTT, "<v x>", ""),
        (VTT, "&", ""),
        (VTT, "-->", ""),
        (VTT, "\n-->\n", ""),
        (VTT, "\nNOTE ", ""),
        ("WEBVTT\n\n", "00:01.000 --> 00:02.000\n", ""),
        ("WEBVTT\n\n", "\nSTYLE\n::cue{}\n", ""),
        (VTT, "\r", ""),
        (SRT, "{\\", ""),
        (SRT, "A ", ": x"),
        (SRT, "9:", ""),
        (SRT, "\n2\n", ""),
        (SRT, "\n00:", ""),
        (SRT, "\n\n2\n00:00:01,000 --> 00:00:02,000\nso it is\n", ""),
        ("", "00:00:0", " -->"),
        ("", " \t", "00:00:01,000 --> 00:00:02,000\nx"),
        ('{"a":', "[", ""),
        ("", '{"segments":', ""),
        ('{"segments":[', SEGMENT + ",", SEGMENT + "]}"),
        ('{"segments":[{"body":"x","startTime":', "9", "}]}"),
        ('{"segments":[{"body":"x","startTime":"', "9:", '"}]}'),
        ("", "<!--", ""),
        ("", "<!-- -->", ""),
        ("<p>", "<", ""),
        ("<p>", "&amp", ""),
        ("", "<p>x", ""),
        ("", "<p><cite>x", ""),
        ("<table>", "<tr><td>x", ""),
        ("", "<meta ", ""),
        ("", "\x85", ""),
    ],
)
def test_a_megabyte_made_to_be_slow_is_read_in_time(head: str, repeated: str, tail: str) -> None:
    body = (head + repeated * ((MEGABYTE - len(head)) // len(repeated)) + tail).encode()
    mime = "text/html" if head.startswith("<") or repeated.startswith("<p") else ""
    started = time.process_time()
    read(body, mime)
    assert time.process_time() - started < CPU_LIMIT_S


@pytest.mark.parametrize("charset", ["punycode", "idna", "utf-7", "unicode_escape", "utf-16"])
def test_no_charset_makes_decoding_slow(charset: str) -> None:
    body = b"xn--" + b"a9-." * (MEGABYTE // 4) + b"\xff"
    started = time.process_time()
    read(body, "text/plain", charset)
    assert time.process_time() - started < CPU_LIMIT_S
