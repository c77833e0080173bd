"""Keyphrases of a text by C-value: frequent phrases, less what they owe to longer ones.

K. Frantzi, S. Ananiadou, H. Mima, "Automatic recognition of multi-word terms: the C-value/NC-value
method", 2000; with one added to the length, so that single words have a value too.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass

from streams.transcripts.core.analysis.words import MOST_WORDS, stop_words, words_of

COUNT = 15
LONGEST = 3
"""Words of the longest phrase."""

_SHORTEST_WORD = 3
_LONGEST_WORD = 40
_BREAK = re.compile(r"[.,;:!?()\[\]{}\"“”„«»¿¡\n…—\u2013|/]+")
_APOSTROPHE = re.compile(r"['\u2019](?:s|ll|re|ve|d|m|t)?$")


@dataclass(frozen=True, slots=True)
class Keyphrase:
    """``score``: C-value in thousandths of the text's words, so that lengths compare."""

    phrase: str
    score: float
    occurrences: int


def keyphrases(text: str, language: str) -> list[Keyphrase]:
    """The best phrases of one to three words, best first; none without known stop words.

    A phrase crosses no punctuation, holds no stop word and comes twice at least, a single word
    three times. One that mostly comes inside a longer one that is listed is left out.
    """
    stop = stop_words(language)
    if not stop:
        return []
    counts, total = _count(text, stop)
    repeated = {phrase: times for phrase, times in counts.items() if times > 1}
    inside: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for phrase, times in repeated.items():
        for part in _parts(phrase):
            inside[part].append(times)
    scored = []
    for phrase, times in repeated.items():
        longer = inside.get(phrase)
        free = times - sum(longer) / len(longer) if longer else times
        if free > 0 and times + len(phrase) > 3:
            scored.append((-math.log2(1 + len(phrase)) * free, phrase, times))
    scored.sort()
    return _select(scored, total)


def _count(text: str, stop: frozenset[str]) -> tuple[Counter[tuple[str, ...]], int]:
    """How often each phrase comes; the number of words read."""
    counts: Counter[tuple[str, ...]] = Counter()
    total = 0
    for stretch in _BREAK.split(text):
        words = words_of(stretch)[: MOST_WORDS - total]
        total += len(words)
        run: list[str] = []
        for word in words:
            bare = _APOSTROPHE.sub("", word)
            if word in stop or bare in stop or not _tells(bare):
                _count_run(run, counts)
                run = []
            else:
                run.append(bare)
        _count_run(run, counts)
        if total >= MOST_WORDS:
            break
    return counts, total


def _tells(word: str) -> bool:
    return _SHORTEST_WORD <= len(word) <= _LONGEST_WORD and not word[0].isdecimal()


def _count_run(run: list[str], counts: Counter[tuple[str, ...]]) -> None:
    for start in range(len(run)):
        for end in range(start + 1, min(start + LONGEST, len(run)) + 1):
            counts[tuple(run[start:end])] += 1


def _parts(phrase: tuple[str, ...]) -> set[tuple[str, ...]]:
    """The phrases inside a phrase."""
    size = len(phrase)
    return {
        phrase[start : start + length]
        for length in range(1, size)
        for start in range(size - length + 1)
    }


def _select(scored: list[tuple[float, tuple[str, ...], int]], total: int) -> list[Keyphrase]:
    """The first ones; a part of one that was taken only if it comes as often again without."""
    taken: list[Keyphrase] = []
    within: Counter[tuple[str, ...]] = Counter()
    for value, phrase, times in scored:
        if times < 2 * within[phrase]:
            continue
        score = round(-value * 1000 / total, 3)
        taken.append(Keyphrase(" ".join(phrase), score, times))
        if len(taken) == COUNT:
            break
        for part in _parts(phrase):
            within[part] += times
    return taken
