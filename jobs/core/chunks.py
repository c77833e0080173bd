"""Cutting a transcript into stretches of about a minute of speech, to be embedded one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

SHORTEST_MS, LONGEST_MS = 60_000, 75_000
"""A stretch ends at the first segment that ends after the one, and should not pass the other."""

WORDS_A_MINUTE = 150
MOST_WORDS = WORDS_A_MINUTE * LONGEST_MS // 60_000


def chunks(transcript: Mapping[str, Any]) -> list[str]:
    """The stretches of an `episode-transcripts` record, in order; none is empty.

    Cut by the times of its segments where all have a start, else by words at conversational speed.
    """
    segments = transcript.get("segments") or ()
    timed = bool(segments) and all(segment["start_ms"] is not None for segment in segments)
    found = list(_by_time(segments)) if timed else []
    return found or _by_words(transcript.get("text") or "")


def _by_time(segments: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    ordered = sorted(segments, key=lambda segment: segment["start_ms"])
    texts: list[str] = []
    begun = ordered[0]["start_ms"]
    for segment, following in zip(ordered, [*ordered[1:], None], strict=True):
        end = _end(segment, following)
        if texts and end - begun > LONGEST_MS:
            yield from _stretch(texts, segment["start_ms"] - begun)
            texts, begun = [], segment["start_ms"]
        texts.append(segment["text"])
        if end - begun >= SHORTEST_MS or following is None:
            yield from _stretch(texts, end - begun)
            texts, begun = [], following["start_ms"] if following is not None else end


def _end(segment: Mapping[str, Any], following: Mapping[str, Any] | None) -> int:
    """When a segment ends: as it says, else where the next one starts."""
    if segment["end_ms"] is not None:
        return int(segment["end_ms"])
    return int((segment if following is None else following)["start_ms"])


def _stretch(texts: Sequence[str], length_ms: int) -> list[str]:
    """A stretch as it is; one segment that lasts too long is cut by words."""
    text = " ".join(" ".join(texts).split())
    if length_ms > LONGEST_MS:
        return _by_words(text)
    return [text] if text else []


def _by_words(text: str) -> list[str]:
    """As few parts as keep to ``MOST_WORDS``, equally long."""
    words = text.split()
    count = -(-len(words) // MOST_WORDS)
    cuts = [len(words) * number // count for number in range(count + 1)] if count else []
    return [" ".join(words[start:end]) for start, end in pairwise(cuts)]
