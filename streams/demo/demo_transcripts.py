"""Writes a conversation in the five transcript formats, with the habits that publishers have."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streams.demo.demo_catalogue import Line


@dataclass(frozen=True)
class Rendering:
    """How a format is served: its MIME types (publishers differ), suffix and writer."""

    mimes: tuple[str, ...]
    suffix: str
    write: Callable[[Sequence[Line]], str]


def write_vtt(lines: Sequence[Line]) -> str:
    """WebVTT with voice tags, which are left open as most publishers leave them."""
    cues = (
        f"{_clock(line.start_ms, '.')} --> {_clock(line.end_ms, '.')}\n"
        f"<v {line.speaker}>{html.escape(line.text, quote=False)}\n"
        for line in lines
    )
    return "WEBVTT\n\n" + "\n".join(cues)


def write_srt(lines: Sequence[Line]) -> str:
    """SubRip; a speaker is named where the speaker changes, and not again until then."""
    cues, previous = [], ""
    for number, line in enumerate(lines, 1):
        named = f"{line.speaker}: " if line.speaker != previous else ""
        times = f"{_clock(line.start_ms, ',')} --> {_clock(line.end_ms, ',')}"
        cues.append(f"{number}\n{times}\n{named}{line.text}\n")
        previous = line.speaker
    return "\n".join(cues)


def write_json(lines: Sequence[Line]) -> str:
    """The namespace's JSON; every third line word by word and without end times."""
    segments: list[dict[str, object]] = []
    for number, line in enumerate(lines):
        words = line.text.split() if number % 3 == 0 else [line.text]
        pace = (line.end_ms - line.start_ms) / len(words)
        for index, word in enumerate(words):
            start = (line.start_ms + index * pace) / 1000
            segment = {"speaker": line.speaker, "startTime": round(start, 3), "body": word}
            if len(words) == 1:
                segment["endTime"] = line.end_ms / 1000
            segments.append(segment)
    return json.dumps({"version": "1.0.0", "segments": segments}, ensure_ascii=False)


def write_html(lines: Sequence[Line]) -> str:
    """The namespace's HTML: cite, time and p, one after another."""
    return "\n".join(
        f"<cite>{html.escape(line.speaker)}:</cite>\n"
        f"<time>{line.start_ms // 60_000}:{line.start_ms // 1000 % 60:02d}</time>\n"
        f"<p>{html.escape(line.text)}</p>"
        for line in lines
    )


def write_text(lines: Sequence[Line]) -> str:
    """Paragraphs, without times or speakers."""
    paragraphs, previous = [], ""
    for line in lines:
        if line.speaker != previous:
            paragraphs.append([line.text])
        else:
            paragraphs[-1].append(line.text)
        previous = line.speaker
    return "\n\n".join(" ".join(paragraph) for paragraph in paragraphs) + "\n"


RENDERINGS = {
    "vtt": Rendering(("text/vtt",), "vtt", write_vtt),
    "srt": Rendering(("application/x-subrip", "application/srt", "text/srt"), "srt", write_srt),
    "json": Rendering(("application/json",), "json", write_json),
    "html": Rendering(("text/html",), "html", write_html),
    "text": Rendering(("text/plain",), "txt", write_text),
}


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"
