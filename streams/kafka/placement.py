"""Which partition a key belongs to: Kafka's default, murmur2 of its bytes modulo the partitions.

Java's, Faust's and kafka-python's producers place keys so, and ours. librdkafka's place them by
CRC32 unless told otherwise, and others by no rule at all.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import polars as pl

_SEED, _MULTIPLIER = 0x9747B28C, 0x5BD1E995
_32_BITS, _31_BITS = 0xFFFF_FFFF, 0x7FFF_FFFF
_KEPT = np.array([0, 0xFF, 0xFFFF, 0xFF_FFFF], np.uint32)
"""What counts of the last word, by how many bytes of it the key has."""

_FEW = 64
"""Keys that Python hashes sooner, most of them from its cache, than numpy gets started."""


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of one key."""
    return (_murmur2(key) & _31_BITS) % partitions


def partitions_of(keys: pl.Series, partitions: int) -> np.ndarray:
    """The partition of each string of a column without nulls, as its UTF-8 bytes: int64."""
    if len(keys) < _FEW:
        hashes = np.array([_murmur2_of_text(key) for key in keys.to_list()], np.uint32)
    else:
        hashes = _murmur2_each(keys)
    return ((hashes & np.uint32(_31_BITS)) % np.uint32(partitions)).astype(np.int64)


def _murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bits, with the seed of org.apache.kafka.common.utils.Utils."""
    whole = len(data) & ~3
    value = _SEED ^ len(data)
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _MULTIPLIER & _32_BITS
        word = (word ^ word >> 24) * _MULTIPLIER & _32_BITS
        value = value * _MULTIPLIER & _32_BITS ^ word
    if len(data) > whole:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _32_BITS
    value = (value ^ value >> 13) * _MULTIPLIER & _32_BITS
    return value ^ value >> 15


@lru_cache(maxsize=65_536)
def _murmur2_of_text(text: str) -> int:
    return _murmur2(text.encode())


def _murmur2_each(keys: pl.Series) -> np.ndarray:
    """The same of a whole column, word by word."""
    arrow = keys.rechunk().to_arrow()
    _, offsets, data = arrow.buffers()
    ends = np.frombuffer(offsets, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    # Every place has three more bytes behind it, so that a word can begin anywhere.
    padded = np.zeros(int(ends[-1]) + 8, np.uint8)
    padded[: ends[-1]] = np.frombuffer(data, np.uint8, int(ends[-1]))
    words = np.ndarray(len(padded) - 3, "<u4", padded, strides=(1,))
    starts, lengths = ends[:-1], np.diff(ends)
    multiplier = np.uint32(_MULTIPLIER)
    values = np.uint32(_SEED) ^ lengths.astype(np.uint32)
    whole = lengths >> 2
    shortest, longest = int(whole.min()), int(whole.max())
    for number in range(longest):
        # All rows, while all of them have this word.
        rows = slice(None) if number < shortest else np.flatnonzero(whole > number)
        word = words[starts[rows] + 4 * number] * multiplier
        word ^= word >> np.uint32(24)
        word *= multiplier
        values[rows] = values[rows] * multiplier ^ word
    left = lengths & 3
    last = (values ^ (words[starts + 4 * whole] & _KEPT[left])) * multiplier
    values = np.where(left > 0, last, values)
    values ^= values >> np.uint32(13)
    values *= multiplier
    values ^= values >> np.uint32(15)
    return values
