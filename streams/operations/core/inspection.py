"""How input is read: what would be stored of it, what was mended, what refused, and why.

The shapes are a public contract, printed as JSON by `podstream inspect`. Times are ISO 8601 in UTC.
All of it comes from the functions with which ingestion and import read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from schemas.codec import from_plain, to_plain
from streams.ingest.core.episodes import (
    audio_file,
    categories,
    feed_guid,
    language_tag,
    rss_show_id,
    truth,
    web_address,
)
from streams.ingest.core.feed_records import feed_records
from streams.ingest.core.feeds import FeedError
from streams.ingest.core.identity import identity_of
from streams.ingest.core.listings import digest_of
from streams.ingest.core.subscriptions import OpmlError, subscriptions_of_opml
from streams.operations.core.imports import RowError, Rows, parse_episode, parse_events
from streams.text.notes import Notes
from streams.text.plain_text import one_line, plain_text
from streams.transcripts.core.transcripts import transcript_record

Inspected = dict[str, Any]
"""What is printed."""

SHOWN_ROWS = 100
"""Records of a file that are shown."""
MAX_REFUSED = 10_000
"""Refused rows that are listed; a file of another kind would list them all."""


def no_feed(what: str, why: str) -> Inspected:
    """What is shown of a feed of which nothing can be stored."""
    return {"show": {}, "episodes": [], "refused": [{"what": what, "why": why}], "notes": []}


def inspect_feed(url: str, body: bytes) -> Inspected:
    """What would be stored of a feed that was subscribed to as ``url``.

    An episode's `notes` are those of its record; `notes` of the feed and of its entries together
    are the feed's. `identity` is what episodes of several sources are united by, `digest` what
    makes an edit.
    """
    try:
        found = feed_records(url, body)
    except FeedError as error:
        return no_feed("the feed", str(error))
    notes = Notes(found.feed["notes"])
    for record in found.records.values():
        notes.add(*record["notes"])
    return {
        "show": _show(url, found.feed),
        "episodes": [_episode(record, found.entries[key]) for key, record in found.records.items()],
        "refused": [{"what": what, "why": why} for what, why in found.refused]
        or ([] if found.records else [{"what": "the feed", "why": "it lists no episodes"}]),
        "notes": notes.listed(),
    }


def _show(url: str, feed: Mapping[str, Any]) -> Inspected:
    named = [name for path in feed.get("itunes_categories") or () for name in path]
    return {
        "id": rss_show_id(url),
        "url": url,
        "title": one_line(feed.get("title")),
        "description": plain_text(feed.get("description")),
        "link": web_address(feed.get("link")),
        "language": language_tag(feed.get("language")),
        "categories": categories(named),
        "explicit": truth(feed.get("explicit")),
        "image": web_address(feed.get("cover_url")),
        "guid": feed_guid(feed.get("feed_guid")),
    }


def _episode(record: Mapping[str, Any], entry: Mapping[str, Any]) -> Inspected:
    return {
        "id": record["episode_id"],
        "guid": record["guid"],
        "title": record["title"],
        "published_at": _iso(record["published_at"]),
        "duration_s": record["duration_s"],
        "season": record["season"],
        "number": record["number"],
        "type": record["episode_type"],
        "explicit": record["explicit"],
        "language": record["language"],
        "description": record["description"],
        "link": record["link"],
        "enclosure_url": record["enclosure_url"],
        "enclosure_type": audio_file(entry.get("enclosures"))[1],
        "categories": record["categories"],
        "image": record["image_url"],
        "persons": record["persons"],
        "chapters_url": record["chapters_url"],
        "transcripts": record["transcripts"],
        "identity": identity_of(dict(record)),
        # Not of the ids, which are those of the address or file that the feed was read from.
        "digest": digest_of({**record, "episode_id": "", "show_id": ""}).hex(),
        "notes": record["notes"],
    }


def inspect_transcript(
    url: str, mime: str, body: bytes, charset: str | None = None, language: str = ""
) -> Inspected:
    """What would be stored of a transcript that is listed as ``mime`` and served in ``charset``.

    `segments` are those of the record or, where it has a text only, the lines of it.
    """
    episode = {"episode_id": "", "language": language}
    record = transcript_record(episode, {"url": url, "type": mime}, body, charset)
    lines = record["text"].split("\n") if record["text"] else []
    bare = {"start_ms": None, "end_ms": None, "speaker": ""}
    return {
        "status": record["status"],
        "reason": record["reason"],
        "format": record["format"],
        "language": record["language"],
        "segments": record["segments"] or [{**bare, "text": line} for line in lines],
        "notes": record["notes"],
    }


def no_transcript(status: str, reason: str) -> Inspected:
    """What is shown of a transcript that could not be had."""
    empty = {"format": "", "language": "", "segments": [], "notes": []}
    return {"status": status, "reason": reason, **empty}


def inspect_opml(body: bytes) -> Inspected:
    """The feeds that an OPML file lists, and those that could not be followed."""
    notes = Notes()
    try:
        feeds, refused = subscriptions_of_opml(body, notes)
    except OpmlError as error:
        return no_opml("the list", str(error))
    return {
        "feeds": [{"url": feed["url"], "title": feed["title"]} for feed in feeds],
        "refused": [{"what": f"feed {place}", "why": why} for place, why in refused]
        or ([] if feeds else [{"what": "the list", "why": "it lists no feeds"}]),
        "notes": notes.listed(),
    }


def no_opml(what: str, why: str) -> Inspected:
    """What is shown of a list of which no feed can be followed."""
    return {"feeds": [], "refused": [{"what": what, "why": why}], "notes": []}


def inspect_events(read: Iterable[Rows], now_ms: int) -> Inspected:
    """What importing events would store of the rows of a file at ``now_ms``."""
    table = TableInspection()
    for rows in read:
        events, refused = parse_events(rows, now_ms)
        table.add(refused, len(events))
        for event in events[: table.wanted]:
            table.records.append(_shown_record("user_event", event))
    return table.shown()


def inspect_episodes(read: Iterable[Rows]) -> Inspected:
    """What importing episodes would store of the rows of a file; a transcript with its episode."""
    table = TableInspection()
    for rows in read:
        refused, stored = list(rows.refused), 0
        for line, row in zip(rows.lines, rows.rows, strict=True):
            try:
                episode, transcript = parse_episode(row)
                shown = _shown_record("episode", episode)
                shown["transcript"] = transcript and _shown_record("transcript", transcript)
            except RowError as error:
                refused.append((line, str(error)))
                continue
            stored += 1
            if table.wanted:
                table.records.append(shown)
        table.add(sorted(refused), stored)
    return table.shown()


class TableInspection:
    """What is shown of a table: how many rows it has, the first records, and what was refused."""

    def __init__(self) -> None:
        self.rows = 0
        self.stored = 0
        self.records: list[Inspected] = []
        self.refused: list[Inspected] = []

    @property
    def wanted(self) -> int:
        """How many more records are to be shown."""
        return SHOWN_ROWS - len(self.records)

    def add(self, refused: Iterable[tuple[int | None, str]], stored: int) -> None:
        """Count rows that can be stored, and those that cannot: (line, why)."""
        for line, why in refused:
            self.rows += 1
            if len(self.refused) < MAX_REFUSED:
                self.refused.append({"line": line, "why": why})
        self.rows += stored
        self.stored += stored

    def shown(self) -> Inspected:
        """`rows` are all that were found, `stored` those of them that would be."""
        return {
            "rows": self.rows,
            "stored": self.stored,
            "refused": self.refused,
            "records": self.records,
        }


def no_table(why: str) -> Inspected:
    """What is shown of a file that is no table at all."""
    table = TableInspection()
    return {**table.shown(), "refused": [{"line": None, "why": why}]}


def _shown_record(schema: str, record: Mapping[str, Any]) -> Inspected:
    """A record as whoever reads it gets it. RowError if it does not fit its schema."""
    try:
        encoded = to_plain(schema, record)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise RowError(f"record does not fit its schema: {error}") from error
    read: Mapping[str, Any] = from_plain(schema, encoded)
    return {name: _iso(v) if isinstance(v, datetime) else v for name, v in read.items()}


def _iso(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    finest = "milliseconds" if moment.microsecond else "seconds"
    return moment.astimezone(UTC).isoformat(timespec=finest).replace("+00:00", "Z")
