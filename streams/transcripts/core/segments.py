"""Stretches of speech: what every transcript format is read into, and how they are tidied up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from streams.text.plain_text import clean, one_line

_MERGED_CHARS = 240
_LONGEST_CHARS = 2 * _MERGED_CHARS
"""Languages that part no words have no blank to end a segment at."""
_OVERLAP_WORDS = 60
_CLOSING = re.compile(r"[,.;:!?%)\]}\u2026\u201d\u2019\u3001\u3002\uff0c\uff1f\uff01]{1,3}")
_OPENING = ("(", "[", "{", "\u201c", "\u2018", "\u201e", "\u00bf", "\u00a1")
_CLOCK = re.compile(r"(?:([0-9]{1,4}):)?([0-9]{1,4}):([0-9]{1,2})(?:[.,:;]([0-9]{1,9}))?")


class TranscriptError(ValueError):
    """A body that holds no transcript; the message says why."""


@dataclass(frozen=True)
class Segment:
    """One stretch of speech; times in milliseconds, None where the format has none."""

    start_ms: int | None
    end_ms: int | None
    speaker: str
    text: str


def segment(start: int | None, end: int | None, speaker: str, text: str) -> Segment:
    """A Segment with its texts on one line; an end before the start is no end."""
    if start is not None and end is not None and end < start:
        end = None
    # Blanks go first: cleaning drops carriage returns, which may be all that parts two words.
    words = clean(" ".join(text.split())).split()
    return Segment(start, end, one_line(speaker)[:200], " ".join(words))


def clock_ms(text: str) -> int | None:
    """`m:ss`, `h:mm:ss`, each with an optional fraction, in milliseconds; None without a clock."""
    match = _CLOCK.search(text)
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups()
    whole = (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)
    return whole * 1000 + int((fraction or "0").ljust(3, "0")[:3])


def merge_words(segments: Sequence[Segment], apart: Sequence[bool] = ()) -> list[Segment]:
    """Segments of a word or two joined into sentences, which is what a segment means elsewhere.

    ``apart`` says of each segment whether a blank parts it from the one before; where that is not
    known, all but signs that close a word are parted.
    """
    words = sum(len(segment.text.split()) for segment in segments)
    if words > 3 * len(segments):
        return list(segments)
    merged: list[Segment] = []
    for place, segment in enumerate(segments):
        last = merged[-1] if merged else None
        parted = apart[place] if apart else not _CLOSING.fullmatch(segment.text)
        if not apart and last and last.text.endswith(_OPENING):
            parted = False
        if (
            last is None
            or last.speaker != segment.speaker
            or (parted and (last.text.endswith((".", "?", "!")) or len(last.text) > _MERGED_CHARS))
            or len(last.text) > _LONGEST_CHARS
        ):
            merged.append(segment)
        else:
            end = segment.end_ms if segment.end_ms is not None else segment.start_ms
            text = f"{last.text}{' ' if parted else ''}{segment.text}"
            merged[-1] = Segment(last.start_ms, end, last.speaker, text)
    return merged


def unroll(segments: Sequence[Segment]) -> list[Segment]:
    """Captions that roll up, or grow word by word, with what was on screen before left out.

    Only where most captions begin with words of the one before: people do repeat themselves.
    """
    words = [segment.text.split() for segment in segments]
    repeated = [0] * len(segments)
    for i in range(1, len(segments)):
        if segments[i].speaker == segments[i - 1].speaker:
            repeated[i] = _overlap(words[i - 1], words[i])
    if len(segments) < 3 or 2 * sum(map(bool, repeated)) <= len(segments):
        return list(segments)
    rest = (
        replace(segment, text=" ".join(spoken[known:]))
        for segment, spoken, known in zip(segments, words, repeated, strict=True)
    )
    return [segment for segment in rest if segment.text]


def _overlap(before: Sequence[str], words: Sequence[str]) -> int:
    """How many words at the start of a caption are those at the end of the one before."""
    for count in range(min(len(before), len(words), _OVERLAP_WORDS), 0, -1):
        # One word in common is chance, unless it is all that there was.
        telling = count > 1 or count == len(before)
        if telling and before[-count] == words[0] and before[-count:] == words[:count]:
            return count
    return 0


def running_text(segments: Sequence[Segment]) -> str:
    """What was said, one line a turn of a speaker."""
    lines: list[list[str]] = []
    previous: str | None = None
    for segment in segments:
        if not lines or segment.speaker != previous:
            lines.append([])
        lines[-1].append(segment.text)
        previous = segment.speaker
    return "\n".join(" ".join(line) for line in lines)
