"""`podstream inspect`, as a person or a script calls it: without a broker, and storing nothing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from typer.testing import CliRunner, Result

from streams.cli.main import build_app
from tests.paths import CORPUS
from tests.served import answering, served
from topology.settings import get_settings

FEED = b"""<rss xmlns:itunes="https://www.itunes.com/DTDs/Podcast-1.0.dtd/"><channel>
<title>Harbour Talk</title><language>en</language><itunes:explicit>yes</itunes:explicit>
<itunes:category text="Science"/><itunes:image href="https://cdn.example/cover.jpg"/>
<item><guid>t-1</guid><title>Tides</title><pubDate>Mon, 08 Jan 2024 7:00:00 CET</pubDate>
<itunes:duration>30:15</itunes:duration><itunes:season>2</itunes:season>
<itunes:episode>7</itunes:episode><itunes:episodeType>full</itunes:episodeType>
<description>About &lt;b&gt;tides&lt;/b&gt;</description>
<enclosure url="https://cdn.example/1.mp3" type="audio/mpeg" length="1"/></item>
<item><title>Nobody</title></item>
<item><guid>t-1</guid><title>Tides again</title></item></channel></rss> and more"""
EVENTS = "user_id;episode_id;kind;occurred_at\nu;e;play;1704103200\nu;e;sing;1704103200\n"


@pytest.fixture(autouse=True)
def nothing_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODSTREAM_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    get_settings.cache_clear()


def inspect(*arguments: str, body: bytes | None = None) -> Result:
    return CliRunner().invoke(build_app(), ["inspect", *arguments], input=body)


def shown(*arguments: str, body: bytes | None = None, code: int = 0) -> dict[str, Any]:
    result = inspect(*arguments, "--json", body=body)
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_feed_is_shown_as_it_would_be_stored(tmp_path: Path) -> None:
    path = tmp_path / "show.xml"
    path.write_bytes(FEED)
    found = shown("feed", str(path), "--url", "https://pods.example/show.xml")
    (episode,) = found["episodes"]
    assert episode.pop("id").startswith("rss:")
    assert (len(episode.pop("identity")), len(episode.pop("digest"))) == (32, 16)
    assert episode == {
        "guid": "t-1",
        "title": "Tides",
        "published_at": "2024-01-08T06:00:00Z",
        "duration_s": 1815,
        "season": 2,
        "number": 7,
        "type": "full",
        "explicit": True,
        "language": "en",
        "description": "About tides",
        "link": "",
        "enclosure_url": "https://cdn.example/1.mp3",
        "enclosure_type": "audio/mpeg",
        "categories": ["Science"],
        "image": "https://cdn.example/cover.jpg",
        "persons": [],
        "chapters_url": "",
        "transcripts": [],
        "notes": found["notes"],
    }
    assert (found["show"]["title"], found["show"]["explicit"]) == ("Harbour Talk", True)
    assert found["refused"] == [
        {"what": "entry 'Nobody'", "why": "it has neither guid nor address"},
        {"what": "entry 'Tides again'", "why": "its guid is that of a newer entry"},
    ]
    assert found["notes"] == [
        "an entry left out: it has neither guid nor address",
        "line 10: what follows the end of the feed was passed over",
    ]
    told = inspect("feed", str(path)).output
    for words in (
        "Harbour Talk",
        "season 2 · number 7 · 1815 s",
        "refused: entry 'Nobody'",
        "note:",
    ):
        assert words in told


def test_of_a_long_feed_the_older_entries_are_refused() -> None:
    items = "".join(f"<item><guid>{n}</guid></item>" for n in range(1_700))
    found = shown("feed", "-", body=f"<rss><channel>{items}</channel></rss>".encode())
    assert len(found["episodes"]) == 200
    assert found["refused"] == [
        {"what": "1500 older entries", "why": "only the newest 200 are followed"}
    ]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html><body>Moved</body></html>", "it begins with <html>"),
        (b"<rss><channel><item>", "no element found"),
        (b"", "no element found"),
        (b"<rss>" + b" " * 10_000_000, "too large: it is 10,000,005 bytes; 10,000,000 are allowed"),
    ],
)
def test_what_is_no_feed_says_why(body: bytes, why: str) -> None:
    found = shown("feed", "-", body=body, code=1)
    assert (found["episodes"], found["notes"]) == ([], [])
    assert why in found["refused"][0]["why"]
    assert "Nothing of this would be stored." in inspect("feed", "-", body=body).output


def test_a_feed_without_episodes_ends_with_one() -> None:
    found = shown("feed", "-", body=b"<rss><channel><title>T</title></channel></rss>", code=1)
    assert (found["show"]["title"], found["episodes"]) == ("T", [])
    assert found["refused"] == [{"what": "the feed", "why": "it lists no episodes"}]


def test_what_tells_edits_is_the_same_wherever_a_feed_is_read_from(tmp_path: Path) -> None:
    digests = []
    for name, body in {"monday": FEED, "tuesday": FEED, "wednesday": FEED + b"x"}.items():
        (tmp_path / name).write_bytes(body.replace(b"1.mp3", f"1.mp3?token={name}".encode()))
        digests.append(shown("feed", str(tmp_path / name))["episodes"][0]["digest"])
    assert len(set(digests)) == 1
    edited = shown("feed", "-", body=FEED.replace(b"30:15", b"30:16"))["episodes"][0]
    assert edited["digest"] not in digests


def test_a_transcript_is_shown_as_it_would_be_stored() -> None:
    path = CORPUS / "captions" / "vtt-seconds-only.vtt"
    found = shown("transcript", str(path), "--language", "en")
    assert (found["status"], found["format"], found["language"]) == ("ok", "vtt", "en")
    assert all(set(s) == {"start_ms", "end_ms", "speaker", "text"} for s in found["segments"])
    text = inspect("transcript", "-", "--type", "text/html", body=b"Ann (0:01)\nGood day")
    assert "note: announced as html, but it is text" in text.output
    assert "  Good day" in text.output
    lines = shown("transcript", "-", body=b"one\ntwo")["segments"]
    assert [(s["start_ms"], s["text"]) for s in lines] == [(None, "one"), (None, "two")]
    failed = shown("transcript", "-", body=b"\x1f\x8bnothing", code=1)
    assert failed["status"] == "failed"
    assert failed["segments"] == []


def test_a_list_of_feeds_is_shown() -> None:
    outlines = '<outline text="A" xmlUrl="feed:a.example/f"/><outline xmlUrl="gopher://b"/>'
    found = shown("opml", "-", body=f"<opml><body>{outlines}</body></opml>".encode())
    assert found["feeds"] == [{"url": "http://a.example/f", "title": "A"}]
    assert found["refused"] == [{"what": "feed 2", "why": "'gopher://b' is no address of a feed"}]
    empty = shown("opml", "-", body=b"<opml><body/></opml>", code=1)
    assert empty["refused"] == [{"what": "the list", "why": "it lists no feeds"}]
    slips = (
        b"<opml><body><!-- a -- b --><outline type=rss text='A <b>'xmlUrl='http://a.example/f'/>"
    )
    mended = shown("opml", "-", body=slips + b"</body></opml>")
    assert mended["feeds"] == [{"url": "http://a.example/f", "title": "A <b>"}]
    assert len(mended["notes"]) == 2
    none = shown("opml", "-", body=b"<rss/>", code=1)
    assert (none["feeds"], len(none["refused"])) == ([], 1)


def test_events_are_shown_from_files_and_standard_input(tmp_path: Path) -> None:
    found = shown("events", "-", body=EVENTS.encode("utf-16"))
    assert (found["rows"], found["stored"]) == (2, 1)
    ((record,), (refused,)) = found["records"], found["refused"]
    assert record["occurred_at"] == "2024-01-01T10:00:00Z"
    assert (record["user_id"], record["kind"], len(record["event_id"])) == ("u", "play", 64)
    assert (refused["line"], "'sing' is none of" in refused["why"]) == (3, True)
    path = tmp_path / "x.csv"
    path.write_bytes(gzip.compress(EVENTS.encode()))
    assert shown("events", str(path)) == found
    assert "1 of 2 rows would be stored" in inspect("events", str(path)).output
    table = {
        "user_id": [b"h-1"],
        "episode_id": [b"e"],
        "kind": [b"play"],
        "occurred_at": [1704103200],
    }
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    (record,) = shown("events", str(tmp_path / "x.parquet"))["records"]
    assert record["user_id"] == "h-1"


def test_episodes_are_shown_with_their_transcripts() -> None:
    rows = [{"episode_id": f"x:{n}", "title": "T"} for n in range(150)]
    rows[0] |= {"transcript_text": "words", "published_at": "2024-01-01 10:00:00 UTC"}
    rows[1] = {"episode_id": "x:1", "title": ""}
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    found = shown("episodes", "-", body=body)
    assert (found["rows"], found["stored"], len(found["records"])) == (150, 149, 100)
    first = found["records"][0]
    assert (first["published_at"], first["transcript"]["text"]) == ("2024-01-01T10:00:00Z", "words")
    assert found["refused"] == [{"line": 2, "why": "title missing"}]


def test_tables_that_are_none_end_with_one(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("user_id,user_id\nu,v\n")
    twice = "column user_id twice: 4 bytes passed over"
    assert shown("events", str(path), code=1)["refused"] == [{"line": 1, "why": twice}]
    path.write_text("a\nb\n")
    (refused,) = shown("events", str(path), code=1)["refused"]
    assert refused["line"] is None
    assert "has no column user_id" in refused["why"]


@pytest.mark.parametrize(
    "arguments",
    [(), ("feed",), ("feed", "no-such-file"), ("film", "-"), ("opml", "gopher://a"), ("feed", "/")],
)
def test_a_wrong_call_ends_with_two_and_a_sentence(arguments: tuple[str, ...]) -> None:
    result = inspect(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert result.output.strip()


def test_addresses_go_through_the_guarded_fetcher(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/feed":
            return web.Response(body=FEED, content_type="application/rss+xml")
        if request.path == "/events":
            return web.Response(body=EVENTS.encode(), content_type="text/csv")
        return web.Response(status=404)

    with served(answering(answer)) as host:
        refused = shown("feed", f"http://{host}/feed", code=1)
        assert "not a public address" in refused["refused"][0]["why"]
        monkeypatch.setenv("FETCH_ALLOW_HOSTS", host)
        get_settings.cache_clear()
        found = shown("feed", f"http://{host}/feed")
        assert found["show"]["url"] == f"http://{host}/feed"
        assert [e["guid"] for e in found["episodes"]] == ["t-1"]
        assert shown("events", f"http://{host}/events")["stored"] == 1
        for kind in ("feed", "opml", "events", "episodes"):
            gone = shown(kind, f"http://{host}/none", code=1)
            assert "HTTP 404" in gone["refused"][0]["why"]
        gone = shown("transcript", f"http://{host}/none", code=1)
        assert (gone["status"], gone["reason"]) == ("failed", "HTTP 404")
