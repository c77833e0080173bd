"""Whatever a file holds, inspecting and importing it ends in time, and with an answer."""

from __future__ import annotations

import gzip
import io
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streams.ingest.core.dates import read_date
from streams.ingest.core.durations import duration_s
from streams.ingest.core.months import month_number
from streams.operations.core.imports import RowError, parse_time
from streams.operations.core.inspection import (
    inspect_episodes,
    inspect_events,
    inspect_feed,
    inspect_opml,
    inspect_transcript,
)
from streams.operations.table_source import FileError
from streams.operations.tabular import read_table
from streams.transcripts.core.cue_times import first_timing, times_of
from tests.paths import CORPUS

NOW_MS = 1_790_000_000_000
MEGABYTE = 1_000_000
CPU_LIMIT_S = 20.0
"""Far above what a busy machine takes, and far below square time."""

pytestmark = pytest.mark.no_cover
"""Measuring branches slows down what is timed here, and chance is no test of a branch."""

CSV = (
    b"user_id,episode_id,kind,occurred_at,title\r\n"
    b'anna,x:1,play,2024-01-01 10:00:00 UTC,"One, or ""two"""\r\n'
    b"ben,x:2,skip,1704103200,Two\n"
)
LINES = b"".join(
    json.dumps(row).encode() + b"\n"
    for row in (
        {"user_id": "anna", "episode_id": "x:1", "kind": "play", "occurred_at": 1704103200000},
        {"episode_id": "x:1", "title": "One", "categories": ["A"], "transcript_text": "hello"},
    )
)
OPML = b'<opml><body><outline text="A" xmlUrl="feed://a.example/f"></outline></body></opml>'
TABLES = [CSV, CSV.replace(b",", b";"), LINES, CSV.decode().encode("utf-16"), gzip.compress(CSV)]
FEEDS = [path.read_bytes()[:20_000] for path in sorted((CORPUS / "feeds").iterdir())]
CAPTIONS = [path.read_bytes()[:20_000] for path in sorted((CORPUS / "captions").iterdir())]
PIECES = [
    *(b'"', b",", b";", b"\t", b"\n", b"\r", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9"),
    *(b"sep=;\n", b"9" * 400, b"1e400", b"-", b"{", b"[", b"<", b">", b"&", b"\x1f\x8b", b"PAR1"),
]

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """One of the originals with some stretches replaced by pieces, other stretches, or nothing."""
    body = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(start + draw(st.integers(0, 12)), len(body))
        at = draw(st.integers(0, len(body)))
        new = draw(st.sampled_from(PIECES) | st.just(body[at : at + 40]) | st.binary(max_size=4))
        body = body[:start] + new + body[end:]
    return body


def read(body: bytes, name: str, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """What is made of a table, by either import."""
    try:
        events = inspect_events(read_table(io.BytesIO(body), name, required), NOW_MS)
        episodes = inspect_episodes(read_table(io.BytesIO(body), name, required))
    except FileError as error:
        assert str(error)
        return {"refused": [], "rows": 0}
    for found in (events, episodes):
        assert json.dumps(found)
        assert found["rows"] - found["stored"] == len(found["refused"]) or found["rows"] > 10_000
    return events


@few
@given(
    damaged(TABLES) | st.binary(max_size=200),
    st.sampled_from(["x.csv", "x.jsonl", "", "x.parquet"]),
)
@example(b"\xff\xfe\x00", "x.csv")
@example(b"\x1f\x8b", "x.csv")
@example(b'"', "x.csv")
@example(b"sep=,", "x.csv")
def test_no_table_raises(body: bytes, name: str) -> None:
    read(body, name)


@few
@given(damaged([*FEEDS, OPML]))
def test_no_feed_and_no_list_raises(body: bytes) -> None:
    for found in (inspect_feed("https://a.example/f", body), inspect_opml(body)):
        assert json.dumps(found)
        assert isinstance(found.get("episodes", found.get("feeds")), list)


@few
@given(damaged(CAPTIONS), st.sampled_from(["", "text/vtt", "text/html", "application/json"]))
def test_no_transcript_raises(body: bytes, mime: str) -> None:
    found = inspect_transcript("https://a.example/t", mime, body, language="en")
    assert (found["status"] == "ok") == bool(found["segments"])
    assert json.dumps(found)


WRITTEN = [
    "Mon, 14 Oct 2024 07:00:00 +0200",
    "14 \u043e\u043a\u0442\u044f\u0431\u0440\u044f 2024",
    *("1728889200", "2024-W42-1", "1:02:03", "1h2m", "PT1H"),
    *("00:00:01,000 --> 00:00:02,000", "1s \u2192 2s"),
]


@st.composite
def spelled(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(WRITTEN))
    start, end = (draw(st.integers(0, len(text))) for _ in range(2))
    return text[:start] + draw(st.text(max_size=6)) + text[end:]


@settings(deadline=None, max_examples=200)
@given(spelled() | st.text(max_size=60))
def test_no_date_duration_or_time_raises(text: str) -> None:
    assert 0 <= read_date(text).seconds < 2**33
    assert (duration_s(text) or 0) >= 0
    assert 0 <= month_number(text) <= 12
    first_timing(text)
    times_of(text, after_blank=True)
    try:
        assert parse_time(text).tzinfo is not None
    except RowError as error:
        assert str(error)


@given(st.datetimes(datetime(1990, 1, 2), datetime(2099, 12, 30)))  # noqa: DTZ001
def test_unix_time_is_read_in_whatever_unit(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC, microsecond=0)
    seconds = int(aware.timestamp())
    for unit in (1, 1_000, 1_000_000, 1_000_000_000):
        assert parse_time(seconds * unit) == parse_time(str(seconds * unit)) == aware


@pytest.mark.parametrize(
    "piece",
    [b'"', b'"\n', b'"",', b"a,b\n", b"\n", b"{\n", b"[", b"\xff", b"\0", b'a"b\n,"', b"sep=;\n"],
)
def test_a_hostile_megabyte_of_a_table_is_read_in_time(piece: bytes) -> None:
    started = time.process_time()
    for head in (b"", b"user_id,title\n", b'user_id,title\n"'):
        read((head + piece * (MEGABYTE // len(piece)))[:MEGABYTE], "")
    assert time.process_time() - started < CPU_LIMIT_S


@pytest.mark.parametrize(
    "piece",
    [b"<outline>", b"<outline ", b"<outline a='", b"</outline>", b"</body>", b"</opml>", b"<body>"],
)
def test_a_hostile_megabyte_of_a_list_is_read_in_time(piece: bytes) -> None:
    started = time.process_time()
    inspect_opml(b"<opml><body>" + piece * (MEGABYTE // len(piece)) + b"</opml>")
    assert time.process_time() - started < CPU_LIMIT_S


@pytest.mark.parametrize(
    "piece",
    [
        "1 --> 2\n",
        "1:1:1 ------>\n",
        "[1 > \n",
        "- - - -> -\n",
        "1:00:00.000 - \n",
        "> \u2192 \n",
        "1 " * 200 + ">\n",
    ],
)
def test_a_hostile_megabyte_of_times_is_read_in_time(piece: str) -> None:
    started = time.process_time()
    for head in ("WEBVTT\n\n", ""):
        body = (head + piece * (MEGABYTE // len(piece))).encode()
        inspect_transcript("https://a.example/t.vtt", "text/vtt", body, language="en")
    assert time.process_time() - started < CPU_LIMIT_S
