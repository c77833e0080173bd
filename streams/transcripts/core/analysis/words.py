"""Words of a text, and the words that mean little in a language."""

from __future__ import annotations

import re
from functools import lru_cache

from stopwordsiso import has_lang, stopwords

MOST_WORDS = 50_000
"""Of a longer text, five hours of speech, what follows is not read for keywords or fingerprint."""

_WORD = re.compile(r"[^\W_](?:[\w'\u2019-]*[^\W_])?")
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"
)
_LOOKED_AT = 20_000
_SAME_LISTS = {"nb": "no", "nn": "no"}


def primary(language: str) -> str:
    """The language of a BCP-47 tag without region or script, in lower case: `pt-BR` is `pt`."""
    return language.replace("_", "-").partition("-")[0].strip().lower()


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; hyphens and apostrophes inside a word belong to it."""
    return [word.lower() for word in _WORD.findall(text)]


def is_spaced(text: str) -> bool:
    """False where words are written without spaces, as in Chinese, Japanese, Thai or Khmer.

    Such a text has no words that could be counted without a dictionary.
    """
    sample = text[:_LOOKED_AT]
    letters = sum(map(str.isalpha, sample))
    return len(_UNSPACED.findall(sample)) * 3 <= letters


@lru_cache(maxsize=32)
def stop_words(language: str) -> frozenset[str]:
    """The stop words of a language, empty where none are known (`stopwords-iso`)."""
    code = primary(language)
    code = _SAME_LISTS.get(code, code)
    if not code or not has_lang(code):
        return frozenset()
    # The lists know "don't" by its typewriter apostrophe only.
    listed = {word.lower() for word in stopwords(code)}
    return frozenset(listed | {word.replace("'", "\u2019") for word in listed})
