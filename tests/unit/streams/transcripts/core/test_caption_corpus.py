"""Transcripts as publishers really serve them, each with what is to be made of it.

`tests/corpus/captions.json` says what is expected of each file in `tests/corpus/captions`: its
``mime`` and ``charset`` are what a server said, ``text`` is a part of the text, or all of it if
``exact``, ``first`` and ``last`` are [start_ms, end_ms, speaker] of segments, ``notes`` what
the record says of how it was read.
"""

from __future__ import annotations

import json
from typing import Any

import fastavro
import pytest

from schemas import files
from streams.transcripts.core.transcripts import transcript_record
from tests.paths import CORPUS

EXPECTED: dict[str, dict[str, Any]] = json.loads((CORPUS / "captions.json").read_text("utf-8"))
FIVE_FORMATS = {"vtt", "srt", "json", "html", "text"}


def read(body: bytes, name: str, mime: str, charset: str | None = None) -> dict[str, Any]:
    link = {"url": f"https://example.com/{name}", "type": mime}
    record = transcript_record({"episode_id": "pi:1", "language": "en"}, link, body, charset)
    assert fastavro.validate(record, files.parsed("transcript"), raise_errors=True)
    return record


@pytest.mark.parametrize("name", EXPECTED)
def test_what_publishers_serve_is_read_as_meant(name: str) -> None:
    expected = EXPECTED[name]
    body = (CORPUS / "captions" / name).read_bytes()
    record = read(body, name, expected["mime"], expected.get("charset"))
    assert record["status"] == expected["status"], record["reason"]
    if record["status"] != "ok":
        assert expected["reason"] in record["reason"]
        assert (record["text"], record["segments"]) == ("", [])
        return
    assert (record["format"], record["reason"]) == (expected["format"], "")
    assert expected["text"] in record["text"]
    if expected.get("exact"):
        assert record["text"] == expected["text"]
    segments = [(s["start_ms"], s["end_ms"], s["speaker"]) for s in record["segments"]]
    assert len(segments) == expected["segments"]
    if "notes" in expected:
        assert record["notes"] == expected["notes"]
    for name_of_end, index in (("first", 0), ("last", -1)):
        if name_of_end in expected:
            assert segments[index] == tuple(expected[name_of_end])


def test_the_corpus_is_whole() -> None:
    assert set(EXPECTED) == {path.name for path in (CORPUS / "captions").iterdir()}
    assert {e["format"] for e in EXPECTED.values() if e["status"] == "ok"} == FIVE_FORMATS


@pytest.mark.parametrize("mime", ["text/plain", "text/html", "text/vtt"])
def test_a_line_of_a_megabyte_is_read_whole(mime: str) -> None:
    line = "word " * 200_000
    heads = {
        "text/plain": "",
        "text/html": "<p>",
        "text/vtt": "WEBVTT\n\n00:01.000 --> 00:02.000\n",
    }
    record = read((heads[mime] + line).encode(), "t", mime)
    assert record["status"] == "ok"
    assert record["text"] == line.strip()
