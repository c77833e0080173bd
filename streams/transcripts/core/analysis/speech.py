"""Who speaks how much, and how fast, from timed segments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from streams.transcripts.core.analysis.words import is_spaced, words_of

LONGEST_OPEN_MS = 30_000
"""A segment without an end lasts until the next one starts, but no longer than this."""

SHORTEST_MS = 30_000
"""With less speech than this, a rate says nothing."""

FASTEST_WPM = 600
"""Nobody speaks faster: such times are wrong."""

MOST_SPEAKERS = 20


@dataclass(frozen=True, slots=True)
class Speech:
    """``speech_ms``: time in which anybody speaks, overlaps once; None without times.

    ``share_of`` says whether ``shares`` (speaker, 0 to 1) are of speaking time or of words
    (characters where words are not spaced); empty if no speaker is named. Shares of unnamed
    speakers make up the rest to one.
    """

    speech_ms: int | None
    rate_wpm: float | None
    share_of: str
    shares: tuple[tuple[str, float], ...]


def speech(segments: Sequence[Mapping[str, Any]]) -> Speech:
    """Measure the segments of a transcript."""
    spans = _spans(segments)
    covered = _covered([span for _, span in spans])
    words = [len(words_of(segment["text"])) for segment, _ in spans]
    spaced = is_spaced(" ".join(segment["text"] for segment in segments[:200]))
    rate = None
    if spaced and covered >= SHORTEST_MS:
        rate = sum(words) * 60_000 / covered
    if rate is not None and rate > FASTEST_WPM:
        rate = None
    timed = bool(spans) and len(spans) == sum(bool(s["text"].strip()) for s in segments)
    of: defaultdict[str, float] = defaultdict(float)
    if timed:
        for segment, (start, end) in spans:
            of[segment["speaker"]] += end - start
    else:
        for segment in segments:
            words_said = words_of(segment["text"])
            of[segment["speaker"]] += len(words_said) if spaced else len(segment["text"])
    shares = _shares(of)
    share_of = ("time" if timed else "words") if shares else ""
    return Speech(covered if spans else None, rate, share_of, shares)


def _spans(
    segments: Sequence[Mapping[str, Any]],
) -> list[tuple[Mapping[str, Any], tuple[int, int]]]:
    """The segments with a start and words, in order, with the time that each takes."""
    timed = [s for s in segments if s["start_ms"] is not None and s["text"].strip()]
    timed.sort(key=lambda segment: segment["start_ms"])
    spans = []
    for segment, following in zip_longest(timed, timed[1:]):
        start, end = segment["start_ms"], segment["end_ms"]
        if end is None and following is not None:
            end = min(following["start_ms"], start + LONGEST_OPEN_MS)
        if end is None:  # nothing tells how long the last one is
            continue
        if end > start:
            spans.append((segment, (start, end)))
    return spans


def _covered(spans: Sequence[tuple[int, int]]) -> int:
    """Length of the union of spans that ascend by their starts."""
    covered, reached = 0, None
    for start, end in spans:
        begun = start if reached is None else max(start, reached)
        covered += max(0, end - begun)
        reached = end if reached is None else max(reached, end)
    return covered


def _shares(of: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    total = sum(of.values())
    named = sorted(((-amount, name) for name, amount in of.items() if name and amount > 0))
    return tuple((name, -amount / total) for amount, name in named[:MOST_SPEAKERS])
