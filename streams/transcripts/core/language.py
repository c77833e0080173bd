"""Which language a text is in."""

from __future__ import annotations

from functools import lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

ENOUGH_LETTERS = 80
LOOKED_AT = 10_000
"""Characters looked at, from the middle: the beginning may be a jingle or a legal notice."""
SURE = 0.95
_UNSAID = frozenset(("und", "mul", "mis", "zxx", "root", "xx", "xxx", "none", "null", "all"))


def usable_language(tag: str) -> str:
    """The BCP-47 tag if it names one language, else nothing."""
    primary = tag.lower().partition("-")[0]
    named = primary not in _UNSAID and not ("qaa" <= primary <= "qtz" and len(primary) == 3)
    return tag if named and len(primary) in (2, 3) and primary.isalpha() else ""


def detect_language(text: str) -> str:
    """The language of a text as a BCP-47 tag (ISO 639-1), or nothing if it is not clear.

    Nothing for a text of fewer than 80 letters or one that fits two languages.
    """
    middle = max(0, (len(text) - LOOKED_AT) // 2)
    sample = " ".join(text[middle : middle + LOOKED_AT].split())
    letters = sum(map(str.isalpha, sample))
    # A character of these scripts says as much as a word's third.
    wide = sum("\u3040" <= c <= "\u9fff" or "\uac00" <= c <= "\ud7a3" for c in sample)
    if letters + 2 * wide < ENOUGH_LETTERS:
        return ""
    language, confidence = _identifier().classify(sample)
    return usable_language(language) if confidence >= SURE else ""


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
