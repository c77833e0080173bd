"""Reads the five transcript formats of the podcast namespace into `schemas/transcript.v1.avsc`.

Publishers get the formats wrong in every way, so that reading is lenient and never raises: what
cannot be read becomes a record that says why.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import webvtt
from selectolax.lexbor import LexborHTMLParser, LexborNode

from streams.core.episodes import clean, nests_deeply, one_line

PREFERENCE = ("vtt", "srt", "json", "html", "text")
"""Best first: the recommended one, then those with times, then the rest."""

MAX_RECORD_BYTES = 7_000_000
"""What a record may hold, whole text and segments together: it must fit into one message."""
_SEGMENT_OVERHEAD = 24

MAX_MS = 2**53
_MERGED_CHARS = 240

_MIME = {
    "text/vtt": "vtt",
    "application/x-subrip": "srt",
    "application/srt": "srt",
    "text/srt": "srt",
    "application/json": "json",
    "text/html": "html",
    "text/plain": "text",
}
_SUFFIX = {"vtt": "vtt", "srt": "srt", "json": "json", "html": "html", "htm": "html", "txt": "text"}

_TIMING = re.compile(r"[0-9]{1,4}:[0-9]{2}[:.,][0-9.,:]{0,12}[ \t]{0,9}-->")
_COMMA_TIME = re.compile(r"(:[0-9]{2}),([0-9]{1,3})(?![0-9])")
_VOICE = re.compile(r"<v(?:\.[^\s>]{0,80})?\s{1,9}([^>]{1,200})>", re.I)
_TAG = re.compile(r"</?[a-zA-Z0-9][^<>]{0,300}>")
_NAME = r"(?:[A-ZÀ-ÖØ-Þ][\w.'\u2019-]{0,30}|[0-9]{1,3})"
_NAMES = rf"{_NAME}(?: (?:{_NAME}|&|al|da|de|del|der|di|la|le|van|von)){{0,4}}"
_SPEAKER = re.compile(rf"(?:\[|>>\s?)?({_NAMES})\]?:\s+(?=\S)")
_CLOCK = re.compile(r"(?:([0-9]{1,3}):)?([0-9]{1,3}):([0-9]{2})(?:[.,]([0-9]{1,3}))?")
_HTML_START = re.compile(r"\s*<(?:!doctype html|html|head|body|cite|p|div|time)\b", re.I)


class TranscriptError(ValueError):
    """A body that holds no transcript; the message says why."""


@dataclass(frozen=True)
class Segment:
    """One stretch of speech; times in milliseconds, None where the format has none."""

    start_ms: int | None
    end_ms: int | None
    speaker: str
    text: str


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


def rank_links(links: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """The links worth fetching, the best one first; those in no format we read are left out."""
    known = [(format_of(link["type"], link["url"]), link) for link in links]
    # An address that tells nothing may still serve something we read: its body decides.
    candidates = [
        (PREFERENCE.index(name) if name else len(PREFERENCE), dict(link))
        for name, link in known
        if name or not link["type"]
    ]
    return [link for _, link in sorted(candidates, key=lambda pair: pair[0])]


def transcript_record(
    episode: Mapping[str, Any], link: Mapping[str, str], body: bytes, charset: str | None = None
) -> dict[str, Any]:
    """The `transcript` record of an episode from what its link delivered; never raises.

    ``status`` is `ok`, or `failed` with a reason where the body holds no transcript, or
    `refused` where it is larger than a record may be.
    """
    try:
        name, segments, text = parse_transcript(body, link["type"], link["url"], charset)
    except TranscriptError as error:
        return no_transcript(episode, "failed", str(error), link["url"])
    except Exception as error:
        # The formats' readers are not ours, and this input was written by strangers.
        return no_transcript(episode, "failed", f"{type(error).__name__}: {error}", link["url"])
    timed = any(s.start_ms is not None or s.speaker for s in segments)
    if _record_bytes(segments if timed else [], text) > MAX_RECORD_BYTES:
        reason = f"more than {MAX_RECORD_BYTES} bytes in a record"
        return no_transcript(episode, "refused", reason, link["url"])
    return {
        "episode_id": episode["episode_id"],
        "status": "ok",
        "format": name,
        "url": link["url"],
        "language": episode.get("language") or "",
        "text": text,
        "segments": [_segment_record(segment) for segment in segments] if timed else [],
        "reason": "",
    }


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
    }


def parse_transcript(
    body: bytes, mime: str, url: str, charset: str | None = None
) -> tuple[str, list[Segment], str]:
    """(format, segments, text) of a body. Raises TranscriptError where there is no transcript.

    What the body looks like wins over what its address and type say, except that a web page
    where captions were announced is an error page, not a transcript.
    """
    text = decode(body, charset)
    if not text.strip():
        raise TranscriptError("the body is empty")
    if "\0" in text:
        raise TranscriptError("the body is not text")
    declared, seen = format_of(mime, url), _look(text)
    if seen == "html" and declared not in ("html", "text", ""):
        raise TranscriptError(f"a web page where {declared} was announced")
    name = seen or declared or "text"
    if name in ("vtt", "srt", "json") and seen != name:
        raise TranscriptError(f"announced as {name}, but it is none")
    if name == "text":
        plain = "\n".join(line.strip() for line in clean(text).splitlines() if line.strip())
        return name, [], plain
    segments = [s for s in _READERS[name](text) if s.text]
    if not segments:
        raise TranscriptError(f"no speech in {name}")
    return name, segments, _running_text(segments)


def decode(body: bytes, charset: str | None = None) -> str:
    """Bytes as text: byte order mark, then UTF-8, then the charset announced, then Latin-1."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return body.decode("utf-16", "replace").lstrip("\ufeff")
    for encoding in ("utf-8-sig", charset or "cp1252"):
        try:
            return body.decode(encoding)
        except (UnicodeError, LookupError, ValueError):
            continue
    return body.decode("latin-1")


def _look(text: str) -> str:
    """The format that a text shows itself to be, or '' if it shows none."""
    start = text[:2000].lstrip()
    if start.startswith("WEBVTT"):
        return "vtt"
    if start.startswith(("{", "[")) and text.rstrip().endswith(("}", "]")):
        return "json"
    if _HTML_START.match(start):
        return "html"
    timing = _TIMING.search(text[:20_000])
    if timing:
        return "srt" if "," in timing.group() else "vtt"
    return ""


def _read_vtt(text: str) -> list[Segment]:
    text = text.strip()
    if not text.startswith("WEBVTT"):
        text = f"WEBVTT\n\n{text}"
    segments = []
    for caption in webvtt.WebVTT.from_string(text).captions:
        start, end = caption.start_time.in_milliseconds(), caption.end_time.in_milliseconds()
        for speaker, words in _voices(caption.raw_text):
            segments.append(_segment(start, end, speaker, words))
    return segments


def _voices(raw: str) -> list[tuple[str, str]]:
    """The (speaker, text) stretches of a cue; an unclosed voice tag lasts to the next one."""
    parts = _VOICE.split(raw)
    stretches = [("", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    return [(html.unescape(name).strip(), _cue_text(words)) for name, words in stretches]


def _cue_text(raw: str) -> str:
    return html.unescape(_TAG.sub("", raw))


def _read_srt(text: str) -> list[Segment]:
    lines = text.strip().splitlines()
    try:
        captions = webvtt.WebVTT.from_buffer(lines, format="srt").captions
    except webvtt.errors.MalformedFileError:
        captions = []
    if not captions:
        # Cues without numbers: VTT in all but name once the decimal comma is a point.
        return _read_vtt(_COMMA_TIME.sub(r"\1.\2", text))
    segments, speaker = [], ""
    for caption in captions:
        words = _cue_text(caption.raw_text).strip()
        if named := _SPEAKER.match(words):
            # A speaker is named once and goes on until another one is.
            speaker, words = named.group(1), words[named.end() :]
        start, end = caption.start_time.in_milliseconds(), caption.end_time.in_milliseconds()
        segments.append(_segment(start, end, speaker, words))
    return segments


def _read_json(text: str) -> list[Segment]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TranscriptError(f"not JSON: {error}"[:200]) from error
    listed = parsed.get("segments") if isinstance(parsed, dict) else parsed
    if not isinstance(listed, list):
        raise TranscriptError("JSON without segments")
    segments: list[Segment] = []
    speaker = ""
    for entry in listed:
        if not isinstance(entry, dict):
            continue
        speaker = one_line(entry["speaker"]) if entry.get("speaker") else speaker
        body = entry.get("body")
        start, end = _milliseconds(entry.get("startTime")), _milliseconds(entry.get("endTime"))
        segments.append(_segment(start, end, speaker, body if isinstance(body, str) else ""))
    return _merge_words([segment for segment in segments if segment.text])


def _merge_words(segments: Sequence[Segment]) -> list[Segment]:
    """Segments of a word or two joined into sentences, which is what a segment means elsewhere."""
    words = sum(len(segment.text.split()) for segment in segments)
    if words > 3 * len(segments):
        return list(segments)
    merged: list[Segment] = []
    for segment in segments:
        last = merged[-1] if merged else None
        if (
            last is None
            or last.speaker != segment.speaker
            or last.text.endswith((".", "?", "!"))
            or len(last.text) > _MERGED_CHARS
        ):
            merged.append(segment)
        else:
            end = segment.end_ms if segment.end_ms is not None else segment.start_ms
            merged[-1] = Segment(last.start_ms, end, last.speaker, f"{last.text} {segment.text}")
    return merged


def _read_html(text: str) -> list[Segment]:
    if nests_deeply(text):
        raise TranscriptError("HTML nested too deeply")
    tree = LexborHTMLParser(text)
    tree.strip_tags(["script", "style", "template", "noscript", "head"])
    if not tree.css_first("p"):
        body = tree.body
        return [_segment(None, None, "", body.text(separator=" ") if body else "")]
    segments: list[Segment] = []
    speaker, start = "", None
    for node in tree.css("cite, time, p"):
        if node.tag == "cite":
            speaker = _inner_text(node).rstrip(": ")
        elif node.tag == "time":
            start = _clock_ms(_inner_text(node))
        else:
            # A cite or time inside the paragraph comes later in the walk, but belongs to it.
            for inner in node.css("cite, time"):
                if inner.tag == "cite":
                    speaker = _inner_text(inner).rstrip(": ")
                else:
                    start = _clock_ms(_inner_text(inner))
                inner.decompose()
            segments.append(_segment(start, None, speaker, node.text(separator=" ")))
            start = None
    return segments


def _inner_text(node: LexborNode) -> str:
    return one_line(node.text(separator=" "))


_READERS = {"vtt": _read_vtt, "srt": _read_srt, "json": _read_json, "html": _read_html}


def _segment(start: int | None, end: int | None, speaker: str, text: str) -> Segment:
    if start is not None and end is not None and end < start:
        end = None
    return Segment(start, end, one_line(speaker)[:200], " ".join(clean(text).split()))


def _running_text(segments: Sequence[Segment]) -> str:
    """What was said, one line a turn of a speaker."""
    lines: list[list[str]] = []
    previous: str | None = None
    for segment in segments:
        if not lines or segment.speaker != previous:
            lines.append([])
        lines[-1].append(segment.text)
        previous = segment.speaker
    return "\n".join(" ".join(line) for line in lines)


def _record_bytes(segments: Sequence[Segment], text: str) -> int:
    parts = (len(s.text.encode()) + len(s.speaker.encode()) + _SEGMENT_OVERHEAD for s in segments)
    return len(text.encode()) + sum(parts)


def _milliseconds(value: object) -> int | None:
    """Seconds, as a number, its digits or a clock, in milliseconds."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _clock_ms(str(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return int(value * 1000) if 0 <= value < MAX_MS // 1000 else None


def _clock_ms(text: str) -> int | None:
    """`m:ss`, `h:mm:ss`, each with an optional fraction, in milliseconds."""
    match = _CLOCK.search(text)
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    whole = (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)
    return whole * 1000 + int((fraction or "0").ljust(3, "0"))


def _segment_record(segment: Segment) -> dict[str, Any]:
    return {
        "start_ms": segment.start_ms,
        "end_ms": segment.end_ms,
        "speaker": segment.speaker,
        "text": segment.text,
    }
