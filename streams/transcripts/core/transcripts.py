"""Reads the five transcript formats of the podcast namespace into `schemas/transcript.v3.avsc`.

Publishers get the formats wrong in every way, so that reading is lenient and never raises: what
cannot be read becomes a record that says why.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from streams.http.charsets import decode
from streams.ingest.core.episodes import IMPORT
from streams.text.markup import tokens
from streams.text.notes import Notes
from streams.text.plain_text import clean, one_line
from streams.transcripts.core.captions import read_srt, read_vtt
from streams.transcripts.core.cue_times import first_timing
from streams.transcripts.core.html_transcripts import read_html
from streams.transcripts.core.language import detect_language, usable_language
from streams.transcripts.core.segments import (
    Segment,
    TranscriptError,
    clock_ms,
    merge_words,
    running_text,
    segment,
)

PREFERENCE = ("vtt", "srt", "json", "html", "text")
"""Best first: the recommended one, then those with times, then the rest."""

MAX_RECORD_BYTES = 7_000_000
"""What a record may hold, whole text and segments together: it must fit into one message."""
_SEGMENT_OVERHEAD = 24

_NOT_TRIED: dict[str, Any] = {"attempt": 0, "retry_at": None, "tried": []}
"""What `with_attempt` says otherwise."""

MAX_MS = 2**53

_MIME = {
    "text/vtt": "vtt",
    "application/x-subrip": "srt",
    "application/srt": "srt",
    "text/srt": "srt",
    "text/x-srt": "srt",
    "application/json": "json",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/plain": "text",
}
_SUFFIX = {"vtt": "vtt", "srt": "srt", "json": "json", "html": "html", "htm": "html", "txt": "text"}

_BINARY = re.compile(
    rb"(?P<gzip>\x1f\x8b)|(?P<zip>PK\x03\x04)|(?P<PDF>%PDF-)|(?P<RTF>\{\\rtf)|(?P<Ogg>OggS)"
    rb"|(?P<mp3>ID3[\x00-\x04]|\xff[\xf2\xf3\xfa\xfb])"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufffd]")
_PROLOG = re.compile(r"\s*(?:<\?xml[^>]{0,200}>|<!--(?:(?!-->).){0,1000}-->)", re.S)
_HTML_START = re.compile(
    r"\s*<(?:!doctype\s+html|html|head|body|meta|main|article|section|h[1-6]|ul|ol|table|pre"
    r"|cite|p|div|time)\b",
    re.I,
)
_JSON_START = re.compile(r'\{\s*["}]|\[\s*[\[{\]]')
# What is HTML even where it holds no tag that opens an element.
_ANY_MARKUP = re.compile(r"</[a-z][\w-]{0,40}>|<!--|<!doctype", re.I)
_LOOKED_AT = 20_000


def format_of(mime: str, url: str) -> str:
    """The format that a MIME type or, without a telling one, a URL's suffix stands for; or ''."""
    known = _MIME.get(mime.partition(";")[0].strip().lower())
    try:
        suffix = urlsplit(url).path.rpartition(".")[2].lower()
    except ValueError:
        suffix = ""
    by_suffix = _SUFFIX.get(suffix, "")
    # Plain text is what servers say when they do not know.
    return by_suffix or known or "" if known in (None, "text") else known or ""


def rank_links(links: Iterable[Mapping[str, str]], language: str = "") -> list[dict[str, str]]:
    """The links worth fetching, the best one first; those in no format we read are left out.

    Links in another language than the episode's ``language`` are translations: they come last.
    """
    known = [(format_of(link["type"], link["url"]), link) for link in links]
    # An address that tells nothing may still serve something we read: its body decides.
    candidates = [
        (
            _is_translation(link.get("language", ""), language),
            PREFERENCE.index(name) if name else len(PREFERENCE),
            dict(link),
        )
        for name, link in known
        if name or not link["type"]
    ]
    return [link for *_, link in sorted(candidates, key=lambda ranked: ranked[:2])]


def _is_translation(language: str, of_episode: str) -> bool:
    """Whether both are known and differ, but for the region: `en-gb` is no other than `en-us`."""
    said, wanted = (usable_language(tag).lower() for tag in (language, of_episode))
    return bool(said and wanted) and said.partition("-")[0] != wanted.partition("-")[0]


def transcript_record(
    episode: Mapping[str, Any], link: Mapping[str, str], body: bytes, charset: str | None = None
) -> dict[str, Any]:
    """The `transcript` record of an episode from what its link delivered; never raises.

    ``status`` is `ok`, or `failed` with a reason where the body holds no transcript, or
    `refused` where it is larger than a record may be. The language is what the episode lists for
    the link's address, else its own, else what the text is found to be in.
    """
    try:
        notes = Notes()
        name, segments, text = parse_transcript(body, link["type"], link["url"], charset, notes)
    except TranscriptError as error:
        return no_transcript(episode, "failed", str(error), link["url"])
    except Exception as error:
        # The formats' readers are not ours, and this input was written by strangers.
        return no_transcript(episode, "failed", f"{type(error).__name__}: {error}", link["url"])
    timed = any(s.start_ms is not None or s.speaker for s in segments)
    size = _record_bytes(segments if timed else [], text)
    if size > MAX_RECORD_BYTES:
        return no_transcript(episode, "refused", _too_large(size), link["url"])
    return {
        "episode_id": episode["episode_id"],
        "status": "ok",
        "format": name,
        "url": link["url"],
        "language": _language(episode, link["url"]) or detect_language(text),
        "text": text,
        "segments": [_segment_record(segment) for segment in segments] if timed else [],
        "reason": "",
        "notes": notes.listed(),
        **_NOT_TRIED,
    }


def _language(episode: Mapping[str, Any], url: str) -> str:
    """What the publisher says the transcript at an address is in."""
    listed = (link for link in episode.get("transcripts") or () if link["url"] == url)
    said = next((link.get("language") or "" for link in listed), "")
    return usable_language(said) or usable_language(episode.get("language") or "")


def no_transcript(
    episode: Mapping[str, Any], status: str, reason: str, url: str = ""
) -> dict[str, Any]:
    """The `transcript` record that says why there is none: `none`, `refused` or `failed`."""
    return {
        "episode_id": episode["episode_id"],
        "status": status,
        "format": "",
        "url": url,
        "language": episode.get("language") or "",
        "text": "",
        "segments": [],
        "reason": clean(reason)[:500],
        "notes": [],
        **_NOT_TRIED,
    }


def to_be_heard(episode: Mapping[str, Any]) -> bool:
    """Whether an episode has audio, but lists no transcript in a format we read.

    False for imported ones: their file brings the transcript, if there is one.
    """
    if episode["source"] == IMPORT or not episode.get("enclosure_url"):
        return False
    return not rank_links(episode["transcripts"])


def heard_record(
    episode: Mapping[str, Any], url: str, segments: Sequence[Segment], language: str
) -> dict[str, Any]:
    """The `transcript` record of what was heard in the audio behind ``url``."""
    text = running_text(segments)
    if not text:
        return no_transcript(episode, "failed", "no speech in the audio", url)
    size = _record_bytes(segments, text)
    if size > MAX_RECORD_BYTES:
        return no_transcript(episode, "refused", _too_large(size), url)
    said = usable_language(episode.get("language") or "") or usable_language(language)
    return {
        "episode_id": episode["episode_id"],
        "status": "ok",
        "format": "asr",
        "url": url,
        "language": said or detect_language(text),
        "text": text,
        "segments": [_segment_record(segment) for segment in segments],
        "reason": "",
        "notes": [],
        **_NOT_TRIED,
    }


def with_attempt(record: Mapping[str, Any], attempt: int, retry_at: float | None) -> dict[str, Any]:
    """The record with the number of the attempt that led to it, if links were tried, and when
    the next one is due, in Unix seconds."""
    tried = record["status"] == "ok" or record.get("tried")
    next_at = None if retry_at is None else datetime.fromtimestamp(retry_at, UTC)
    return {**record, "attempt": attempt if tried else 0, "retry_at": next_at}


def parse_transcript(
    body: bytes, mime: str, url: str, charset: str | None = None, notes: Notes | None = None
) -> tuple[str, list[Segment], str]:
    """(format, segments, text) of a body. Raises TranscriptError where there is no transcript.

    What the body looks like wins over what its address and type say, except that a web page
    where captions were announced is an error page, not a transcript. ``notes`` is told what was
    dropped, guessed or overruled.
    """
    notes = Notes() if notes is None else notes
    if binary := _BINARY.match(body):
        raise TranscriptError(f"the body is not text but {binary.lastgroup}")
    # Some writers fill up their last block.
    text = decode(body, charset, notes).rstrip("\0")
    if not text.strip().strip("\ufeff\u200b"):
        raise TranscriptError("the body is empty")
    sample = text[:_LOOKED_AT]
    if "\0" in text or len(_CONTROLS.findall(sample)) * 10 > len(sample):
        raise TranscriptError("the body is not text")
    declared = format_of(mime, url)
    seen = _look(text, declared)
    if seen == "html" and declared not in ("html", "text", ""):
        raise TranscriptError(f"a web page where {declared} was announced")
    if not seen and sample.lstrip().startswith("<?xml"):
        raise TranscriptError("an XML document in no format we read")
    name = seen or declared or "text"
    if name == "html" and not seen and not _is_markup(text):
        name, text = "text", html.unescape(text)
    if declared and name != declared:
        notes.add(f"announced as {declared}, but it is {name}")
    if name in ("vtt", "srt") and seen != name:
        raise TranscriptError(f"announced as {name}, but it is none")
    if name == "text":
        lines = (clean(line).strip() for line in text.splitlines())
        plain = "\n".join(line for line in lines if line)
        if not plain:
            raise TranscriptError("no words in text")
        return name, [], plain
    segments = [s for s in _READERS[name](text, notes) if s.text]
    if not segments:
        raise TranscriptError(f"no speech in {name}")
    return name, segments, running_text(segments)


def _is_markup(text: str) -> bool:
    """Whether a text that is said to be HTML has a tag; other words in angle brackets are words."""
    return bool(_ANY_MARKUP.search(text)) or any(kind != "text" for kind, _ in tokens(text))


def _look(text: str, declared: str) -> str:
    """The format that a text shows itself to be, or '' if it shows none."""
    start = text[:2000].lstrip()
    if start.startswith("WEBVTT"):
        return "vtt"
    bracketed = start.startswith(("{", "[")) and text.rstrip().endswith(("}", "]"))
    if _JSON_START.match(start) or (declared == "json" and bracketed):
        return "json"
    while prolog := _PROLOG.match(start):
        start = start[prolog.end() :]
    if _HTML_START.match(start):
        return "html"
    cue = first_timing(text[:_LOOKED_AT], captions=declared in ("vtt", "srt"))
    if cue:
        in_vtt = "," not in cue and (declared == "vtt" or "<v " in text[:_LOOKED_AT])
        return "vtt" if in_vtt else "srt"
    return ""


def _read_json(text: str, notes: Notes) -> list[Segment]:
    """Segments as the podcast namespace has them, or as Whisper, whisper.cpp or Podlove do.

    Where segments are blanks, or begin or end with one, only those part the words.
    """
    try:
        parsed, end = json.JSONDecoder().raw_decode(text.lstrip())
        if text.lstrip()[end:].strip("\0 \t\r\n"):
            notes.add("what follows the end of the JSON was passed over")
    except (ValueError, RecursionError) as error:
        raise TranscriptError(f"not JSON: {error}"[:200]) from error
    listed = parsed
    if isinstance(parsed, dict):
        keys = ("segments", "transcription", "transcripts")
        listed = next((parsed[key] for key in keys if key in parsed), None)
    if not isinstance(listed, list):
        raise TranscriptError("JSON without segments")
    segments: list[Segment] = []
    apart: list[bool] = []
    speaker, ended_apart, blanks, odd = "", True, 0, 0
    for entry in listed:
        body = entry.get("body", entry.get("text")) if isinstance(entry, dict) else None
        if not isinstance(body, str):
            odd += 1
            continue
        # Podlove numbers the speakers, and names their voices.
        speaker = _name(entry.get("voice")) or _name(entry.get("speaker")) or speaker
        said = segment(*_span(entry), speaker, body)
        blanks += body[:1].isspace() or body[-1:].isspace()
        if not said.text:
            ended_apart |= bool(body)
            continue
        segments.append(said)
        apart.append(ended_apart or body[:1].isspace())
        ended_apart = body[-1:].isspace()
    timeless = sum(one.start_ms is None for one in segments)
    if timeless:
        notes.add(f"{timeless} of {len(segments)} segments without a time")
    if odd:
        notes.add(f"{odd} of {len(listed)} segments without text left out")
    return merge_words(segments, apart if 4 * blanks >= len(segments) else ())


def _span(entry: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Start and end of a segment in milliseconds, by the names that writers have for them."""
    offsets, stamps = entry.get("offsets"), entry.get("timestamps")
    if isinstance(offsets, dict):
        start, end = offsets.get("from"), offsets.get("to")
        if type(start) is type(end) is int and 0 <= start < MAX_MS and 0 <= end < MAX_MS:
            return start, end
    if isinstance(stamps, dict):
        return _milliseconds(stamps.get("from")), _milliseconds(stamps.get("to"))
    whole = _first(entry, _START_MS), _first(entry, _END_MS)
    if "startTime" not in entry and all(type(ms) is int and 0 <= ms < MAX_MS for ms in whole):
        return whole
    said = _first(entry, _STARTS)
    before = isinstance(said, int | float) and -MAX_MS < said < 0
    start, end = _milliseconds(0 if before else said), _milliseconds(_first(entry, _ENDS))
    if end is None and start is not None:
        lasts = _milliseconds(entry.get("duration"))
        end = None if lasts is None else start + lasts
    return start, end


_STARTS, _ENDS = ("startTime", "start", "start_time"), ("endTime", "end", "end_time")
_START_MS, _END_MS = ("start_ms", "startMs"), ("end_ms", "endMs")


def _first(entry: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((entry[name] for name in names if name in entry), None)


def _name(speaker: object) -> str:
    """A speaker as text; some writers give a number, or an object with a name."""
    if isinstance(speaker, dict):
        speaker = speaker.get("name")
    named = isinstance(speaker, str | int) and not isinstance(speaker, bool)
    return one_line(speaker) if named else ""


_READERS = {"vtt": read_vtt, "srt": read_srt, "json": _read_json, "html": read_html}


def _too_large(size: int) -> str:
    return f"the transcript takes {size:,} bytes; a record holds {MAX_RECORD_BYTES:,}"


def _record_bytes(segments: Sequence[Segment], text: str) -> int:
    parts = (len(s.text.encode()) + len(s.speaker.encode()) + _SEGMENT_OVERHEAD for s in segments)
    return len(text.encode()) + sum(parts)


def _milliseconds(value: object) -> int | None:
    """Seconds, as a number, its digits or a clock, in milliseconds."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return clock_ms(str(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return round(value * 1000) if 0 <= value < MAX_MS // 1000 else None


def _segment_record(segment: Segment) -> dict[str, Any]:
    return {
        "start_ms": segment.start_ms,
        "end_ms": segment.end_ms,
        "speaker": segment.speaker,
        "text": segment.text,
    }
