"""Flesch reading ease, with the coefficients published for each language."""

from __future__ import annotations

import re
from collections import Counter

from streams.transcripts.core.analysis.words import MOST_WORDS, primary, words_of

FORMULAS: dict[str, tuple[float, float, float]] = {
    "en": (206.835, 1.015, 84.6),  # Flesch 1948
    "de": (180.0, 1.0, 58.5),  # Amstad 1978
    "es": (206.84, 1.02, 60.0),  # Fernández Huerta 1959, in its corrected form
    "fr": (207.0, 1.015, 73.6),  # Kandel and Moles 1958
    "it": (217.0, 1.3, 60.0),  # Franchina and Vacca 1986
    "nl": (206.83, 0.93, 77.0),  # Douma 1960
    "pt": (248.835, 1.015, 84.6),  # Martins et al. 1996
    "ru": (206.835, 1.3, 60.1),  # Oborneva 2006
}
"""Language -> (constant, weight of words a sentence, weight of syllables a word)."""

FEWEST_WORDS = 100
LONGEST_SENTENCE = 60.0
"""Words: with more a sentence on average, the text has hardly any full stops, as speech
recognition without punctuation writes it, and no formula applies."""

_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$|[\"'”\u2019»)])")
_RUSSIAN = "\u0430\u0435\u0451\u0438\u043e\u0443\u044b\u044d\u044e\u044f"
_VOWELS = re.compile(rf"[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýÿœ{_RUSSIAN}]+")
_RUSSIAN_VOWEL = re.compile(rf"[{_RUSSIAN}]")
_SILENT_END = {
    "en": re.compile(r"(?<![aeiouyl])e$|(?<=[aeiouy]l)e$|(?<=[^td])ed$"),
    "fr": re.compile(r"es?$"),
}


def reading_ease(text: str, language: str) -> float | None:
    """0 (hard) to 100 (easy) for ordinary texts, beyond for odd ones; None where unknown."""
    code = primary(language)
    if code not in FORMULAS:
        return None
    words = words_of(text[: MOST_WORDS * 10])[:MOST_WORDS]
    if len(words) < FEWEST_WORDS:
        return None
    sentences = max(1, len(_SENTENCE_END.findall(text[: MOST_WORDS * 10])))
    a_sentence = len(words) / sentences
    if a_sentence > LONGEST_SENTENCE:
        return None
    counts = Counter(words).items()
    a_word = sum(syllables(word, code) * times for word, times in counts) / len(words)
    constant, by_sentence, by_word = FORMULAS[code]
    return round(constant - by_sentence * a_sentence - by_word * a_word, 1)


def syllables(word: str, language: str) -> int:
    """Syllables of a word in lower case, by its groups of vowels; at least one."""
    silent = _SILENT_END.get(language)
    if silent is not None and len(word) > 3:
        word = silent.sub("", word)
    vowels = _RUSSIAN_VOWEL if language == "ru" else _VOWELS
    return max(1, len(vowels.findall(word)))
