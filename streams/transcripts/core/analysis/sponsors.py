"""A guess where an episode advertises: cue phrases that lie close together.

Nothing here understands what is said. A host who talks about advertising may be taken for an
advertisement, and one without any of the phrases is missed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from streams.transcripts.core.analysis.words import primary

NEAR_CHARACTERS = 700
"""Cues no further apart than this, some 45 s of speech, are of one stretch."""

THRESHOLD = 0.5
MOST = 50
"""Stretches of one episode, and cues of one stretch that are kept as evidence."""

_MOST_EVIDENCE = 8
_LONGEST_EVIDENCE = 80

_STRONG, _FAIR, _WEAK = 0.7, 0.45, 0.25

_NAME = r"[\w&'-]{1,30}(?:\.[a-z]{2,3})?(?: [A-Z0-9À-Þ\u0410-\u042f][\w&'-]{0,30}){0,3}"
"""A word, and those with a capital after it: cues are told apart without regard to case."""

_ANYWHERE: tuple[tuple[float, str], ...] = (
    (_WEAK, r"\b[\w-]{2,30}\.(?:com|org|net|io|co|fm|de|fr|es|it|nl)/[\w-]{2,30}"),
    (_WEAK, r"\b(?:promo|podcast)[ -]?code\b"),
)
"""(Weight, pattern) of cues in any language: the address with a code in it.

All patterns are of lower case and begin at the beginning of a word.
"""

_CUES: dict[str, tuple[tuple[float, str], ...]] = {
    "en": (
        (_STRONG, r"\b(?:brought to you|made possible|sponsored|presented to you) (?:in part )?by"),
        (_STRONG, r"\b(?:today's|this week's|our|this episode's|the show's) sponsors?\b"),
        (_STRONG, r"\bsupport for (?:this|the|our) (?:podcast|show|episode|program) comes from"),
        (_STRONG, r"\b(?:word|message|break)s? (?:from|for|to hear from) our sponsors?\b"),
        (_STRONG, r"\b(?:promo|discount|coupon|offer) code\b"),
        (_STRONG, r"\buse (?:the |our |my )?code\b"),
        (_FAIR, r"\bcode [a-z0-9]{3,20} (?:at|for|to get)\b"),
        (_FAIR, r"\b\d{1,2} ?(?:%|per ?cent) off\b"),
        (_FAIR, r"\bdot com (?:slash|forward slash)\b"),
        (_FAIR, r"\b(?:free trial|money[ -]back guarantee|free shipping|promo period)\b"),
        (_FAIR, r"\b(?:your|the) first (?:order|purchase|month|box|year)\b"),
        (_WEAK, r"\b(?:go|head|head over) to [\w-]{2,30}(?:\.| dot )com\b"),
        (_WEAK, r"\b(?:sign up|subscribe|try it|try them|visit) (?:today|now|for free)\b"),
        (_WEAK, r"\b(?:terms (?:and conditions )?apply|limited time|special offer|exclusive)\b"),
        (_WEAK, r"\blink (?:is )?in the (?:show notes|description)\b"),
    ),
    "de": (
        (_STRONG, r"\b(?:wird|werden) (?:euch |ihnen )?(?:präsentiert|unterstützt|gesponsert) von"),
        (_STRONG, r"\b(?:unser|heutiger|heutige|der heutige) (?:werbe)?(?:sponsor|partner)\b"),
        (_STRONG, r"\b(?:gutschein|rabatt|aktions)[ -]?code\b"),
        (_STRONG, r"\bmit (?:dem|unserem) code\b"),
        (_STRONG, r"\b(?:werbung|anzeige)(?: ende| anfang)?[.:!]"),
        (_FAIR, r"\b\d{1,2} ?(?:%|prozent) (?:rabatt|auf (?:eure|deine|ihre))\b"),
        (_FAIR, r"\b(?:kostenlos(?:en)? (?:testen|probemonat)|versandkostenfrei)\b"),
        (_WEAK, r"\b(?:link|alle infos) (?:dazu )?(?:findet ihr |gibt es )?in den shownotes\b"),
    ),
    "es": (
        (_STRONG, r"\b(?:patrocinado|presentado) por"),
        (_STRONG, r"\b(?:nuestro|el) patrocinador\b"),
        (_STRONG, r"\b(?:código|cupón) (?:promocional|de descuento)\b"),
        (_STRONG, r"\b(?:usa|utiliza|con) (?:el|mi|nuestro) código\b"),
        (_FAIR, r"\b\d{1,2} ?(?:%|por ciento) de descuento\b"),
        (_FAIR, r"\b(?:prueba gratuita|envío gratis)\b"),
        (_FAIR, r"\bpunto com (?:barra|diagonal)\b"),
    ),
    "fr": (
        (_STRONG, r"\b(?:sponsorisé|présenté|soutenu) par"),
        (_STRONG, r"\b(?:notre|le) (?:sponsor|partenaire)\b"),
        (_STRONG, r"\bcode (?:promo|de réduction)\b"),
        (_STRONG, r"\bavec le code\b"),
        (_FAIR, r"\b\d{1,2} ?(?:%|pour ?cent) de (?:réduction|remise)\b"),
        (_FAIR, r"\b(?:essai gratuit|livraison (?:offerte|gratuite))\b"),
        (_FAIR, r"\bpoint com (?:slash|barre)\b"),
    ),
    "pt": (
        (_STRONG, r"\b(?:patrocinado|oferecido|apresentado) por"),
        (_STRONG, r"\b(?:nosso|o) patrocinador\b"),
        (_STRONG, r"\b(?:código|cupom) (?:promocional|de desconto)\b"),
        (_STRONG, r"\b(?:use|usa|com) o (?:código|cupom)\b"),
        (_FAIR, r"\b\d{1,2} ?(?:%|por cento) de desconto\b"),
        (_FAIR, r"\b(?:teste grátis|frete grátis)\b"),
    ),
}

_BRAND = {
    "en": r"(?:brought to you|made possible|sponsored|presented to you) (?:in part )?by"
    r"|sponsors?,?(?: is| are|:)|comes from|thanks to",
    "de": r"(?:präsentiert|unterstützt|gesponsert) von|(?:sponsor|partner) ist",
    "es": r"(?:patrocinado|presentado) por|patrocinador es",
    "fr": r"(?:sponsorisé|présenté|soutenu) par|(?:sponsor|partenaire) est",
    "pt": r"(?:patrocinado|oferecido|apresentado) por|patrocinador é",
}


@dataclass(frozen=True, slots=True)
class Sponsored:
    """A stretch that may be an advertisement.

    Times are of the segments in which its first and last cue lie, None where there are none.
    ``score``, above 0.5 and below 1, grows with the number and weight of different cues; it is no
    probability. ``brand`` is empty where no phrase names one; ``evidence`` are the cues as said.
    """

    start_ms: int | None
    end_ms: int | None
    score: float
    brand: str
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Cue:
    start: int
    end: int
    weight: float
    pattern: int
    said: str


def sponsored(
    segments: Sequence[Mapping[str, Any]], text: str, language: str
) -> tuple[Sponsored, ...]:
    """Stretches in their order, at most 50; none in a language whose cues are not known."""
    code = primary(language)
    if code not in _CUES:
        return ()
    starts, place = [], 0
    for segment in segments:
        starts.append(place)
        place += len(segment["text"]) + 1
    said = " ".join(segment["text"] for segment in segments) if segments else text
    said = said.replace("\u2019", "'").replace("\n", " ")
    found = []
    for group in _near(_cues(said, code)):
        score = _score(group)
        if score >= THRESHOLD:
            found.append(_stretch(group, score, said, code, segments, starts))
    return tuple(found[:MOST])


def _cues(said: str, code: str) -> list[_Cue]:
    """Cues in their order, none within another; of those that begin together the longest."""
    any_of, patterns = _patterns(code)
    # Six times as fast as each pattern on its own, without regard to case. This one capital
    # becomes two letters, which would move all that follows.
    lower = said.replace("\u0130", "i").lower()
    cues: list[_Cue] = []
    at = 0
    while first := any_of.search(lower, at):
        start = first.start()
        tried = ((n, pattern.match(lower, start)) for n, (_, pattern) in enumerate(patterns))
        at, number = max(((match.end(), n) for n, match in tried if match), key=itemgetter(0))
        evidence = said[start:at][:_LONGEST_EVIDENCE]
        cues.append(_Cue(start, at, patterns[number][0], number, evidence))
    return cues


@lru_cache(maxsize=16)
def _patterns(code: str) -> tuple[re.Pattern[str], tuple[tuple[float, re.Pattern[str]], ...]]:
    """One pattern that finds all cues of a language, and the cues with their weights."""
    cues = (*_CUES[code], *_ANYWHERE)
    together = "|".join(pattern.removeprefix(r"\b") for _, pattern in cues)
    return re.compile(rf"\b(?:{together})"), tuple((w, re.compile(p)) for w, p in cues)


@lru_cache(maxsize=16)
def _brand_pattern(code: str) -> re.Pattern[str]:
    return re.compile(rf"(?i:\b(?:{_BRAND[code]})) (?:(?i:our friends at|the|a|an) )?({_NAME})")


def _near(cues: Sequence[_Cue]) -> list[list[_Cue]]:
    groups: list[list[_Cue]] = []
    for cue in cues:
        if groups and cue.start - groups[-1][-1].end <= NEAR_CHARACTERS:
            groups[-1].append(cue)
        else:
            groups.append([cue])
    return groups


def _score(group: Sequence[_Cue]) -> float:
    """One less the product of doubts; a cue that comes again removes no further doubt."""
    doubt = 1.0
    for weight in {cue.pattern: cue.weight for cue in group}.values():
        doubt *= 1 - weight
    return round(1 - doubt, 3)


def _stretch(
    group: Sequence[_Cue],
    score: float,
    said: str,
    code: str,
    segments: Sequence[Mapping[str, Any]],
    starts: Sequence[int],
) -> Sponsored:
    first, last = group[0], max(group, key=lambda cue: cue.end)
    start_ms = end_ms = None
    if segments:
        begins = segments[bisect_right(starts, first.start) - 1]
        place = bisect_right(starts, last.end - 1) - 1
        start_ms, end_ms = begins["start_ms"], segments[place]["end_ms"]
        if end_ms is None and place + 1 < len(segments):
            end_ms = segments[place + 1]["start_ms"]
        if start_ms is None or (end_ms is not None and end_ms < start_ms):
            end_ms = None
    named = _brand_pattern(code).search(said, max(0, first.start - 80), last.end + 80)
    brand = named.group(1).rstrip("'-") if named else ""
    evidence = tuple(dict.fromkeys(cue.said for cue in group))[:_MOST_EVIDENCE]
    return Sponsored(start_ms, end_ms, score, brand, evidence)
