"""Fingerprints by which near-duplicate texts are known: b-bit minwise hashing of word shingles.

P. Li, A. C. König, "b-Bit Minwise Hashing", 2010: of each of 128 minima of 32 bits only the
lowest eight are kept. Equal ones tell how much of their shingles two texts have in common, with a
standard error of 0.04, at an eighth of the memory, so that a million episodes are 128 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

from streams.transcripts.core.analysis.words import MOST_WORDS, is_spaced, words_of

PERMUTATIONS = 128
SHINGLE_WORDS = 3
SHINGLE_CHARACTERS = 6
FEWEST_SHINGLES = 40
"""A shorter text says too little: two of them may well be the same and mean nothing."""

_SEED = 1
_AT_ONCE = 4096
_BY_CHANCE = 1 / 256


def fingerprint(text: str) -> bytes:
    """128 bytes, or none for a text too short. Case, punctuation and line ends do not matter."""
    if is_spaced(text):
        parts: Sequence[str] = words_of(text)[:MOST_WORDS]
        size, glue = SHINGLE_WORDS, " "
    else:
        parts = "".join(words_of(text))[: 2 * MOST_WORDS]
        size, glue = SHINGLE_CHARACTERS, ""
    shingles = {glue.join(parts[at : at + size]) for at in range(len(parts) - size + 1)}
    if len(shingles) < FEWEST_SHINGLES:
        return b""
    encoded = [shingle.encode(errors="replace") for shingle in shingles]
    minima = _nothing_yet().copy()
    for start in range(0, len(encoded), _AT_ONCE):  # a whole day's shingles take 200 MB
        minima.update_batch(encoded[start : start + _AT_ONCE])
    values: np.ndarray = minima.hashvalues.astype(np.uint8)
    return values.tobytes()


@cache
def _nothing_yet() -> MinHash:
    """To be copied: drawing the hash functions takes longer than hashing most texts."""
    return MinHash(PERMUTATIONS, seed=_SEED)


def similarities(one: NDArray[np.uint8], many: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of (128,) and each of (n, 128): 0 to 1."""
    equal = np.count_nonzero(many == one, axis=1) / PERMUTATIONS
    similar: NDArray[np.float64] = np.maximum(0.0, (equal - _BY_CHANCE) / (1 - _BY_CHANCE))
    return similar
