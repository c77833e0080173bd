"""Near-duplicate episodes: whose fingerprints have most in common.

A fingerprint is of the whole text, so that an intro or outro in common, even half the episode,
does not make two episodes one: at 0.6, three quarters of both texts are the same. Every
fingerprint is compared with every other, 8 ms for 100,000 episodes; hash tables in the manner of
LSH would find most of the pairs in less time and take twenty times the memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.transcripts.core.analysis.fingerprint import PERMUTATIONS, similarities

THRESHOLD = 0.6
MOST_SIMILAR = 20
"""Episodes that a record lists; where more are the same, the earliest of them."""

_UNKNOWN_MS = 2**62
_TIMES = struct.Struct(">qq")


class Entry(NamedTuple):
    """What is known of an episode. Whichever was published first is the original, and of those
    whose time is unknown or the same, the one that came first."""

    published_ms: int
    offset: int
    fingerprint: bytes

    @classmethod
    def new(cls, published_ms: int | None, offset: int, fingerprint: bytes) -> Entry:
        """An entry of now; ``published_ms`` since 1970, None if unknown."""
        return cls(_UNKNOWN_MS if published_ms is None else published_ms, offset, fingerprint)

    def encode(self) -> bytes:
        """The entry as bytes: offset, time of publication, fingerprint."""
        return _TIMES.pack(self.offset, self.published_ms) + self.fingerprint

    @classmethod
    def decode(cls, value: bytes) -> Entry:
        """The entry that `encode` made these bytes of."""
        offset, published_ms = _TIMES.unpack_from(value)
        return cls(published_ms, offset, value[_TIMES.size :])


class Arrival(NamedTuple):
    """A fingerprint that has come, empty where an episode has none any more, and its ``offset``."""

    episode_id: str
    offset: int
    published_ms: int | None
    fingerprint: bytes


class Fingerprints:
    """The fingerprints of all episodes that have one."""

    def __init__(self, entries: Iterable[tuple[str, Entry]] = ()):
        self._ids: list[str] = []
        self._row: dict[str, int] = {}
        self._entries: dict[str, Entry] = {}
        self._matrix = np.zeros((256, PERMUTATIONS), dtype=np.uint8)
        for episode_id, entry in entries:
            self.put(episode_id, entry)

    def get(self, episode_id: str) -> Entry | None:
        """The entry of an episode, None if there is none."""
        return self._entries.get(episode_id)

    def put(self, episode_id: str, entry: Entry) -> None:
        """Add or replace the entry of an episode; the matrix is doubled when it is full."""
        row = self._row.setdefault(episode_id, len(self._ids))
        if row == len(self._ids):
            self._ids.append(episode_id)
        if row >= len(self._matrix):
            self._matrix = np.concatenate([self._matrix, np.zeros_like(self._matrix)])
        self._matrix[row] = _row(entry.fingerprint)
        self._entries[episode_id] = entry

    def drop(self, episode_id: str) -> None:
        """Forget an episode; the last one takes its row."""
        row = self._row.pop(episode_id, None)
        if row is None:
            return
        del self._entries[episode_id]
        last = self._ids.pop()
        if last != episode_id:
            self._ids[row] = last
            self._row[last] = row
            self._matrix[row] = self._matrix[len(self._ids)]

    def similar(self, episode_id: str) -> list[tuple[str, float]]:
        """(Episode, similarity) of all others at or above the threshold: most similar first, and
        of equally similar ones the earliest."""
        row = self._row.get(episode_id)
        if row is None:
            return []
        found = similarities(self._matrix[row], self._matrix[: len(self._ids)])
        near = [i for i in np.flatnonzero(found >= THRESHOLD).tolist() if i != row]
        pairs = [(self._ids[i], round(float(found[i]), 3)) for i in near]
        return sorted(pairs, key=lambda pair: (-pair[1], self._age(pair[0])))

    def report(self, episode_id: str) -> dict[str, Any] | None:
        """The `episode_duplicates` record of an episode; None if it has no fingerprint."""
        if episode_id not in self._row:
            return None
        similar = self.similar(episode_id)
        original = min((episode_id, *(other for other, _ in similar)), key=self._age)
        return {
            "episode_id": episode_id,
            "duplicate_of": None if original == episode_id else original,
            "similar": [
                {"episode_id": other, "similarity": similarity}
                for other, similarity in similar[:MOST_SIMILAR]
            ],
        }

    def _age(self, episode_id: str) -> tuple[int, int, str]:
        entry = self._entries[episode_id]
        return entry.published_ms, entry.offset, episode_id

    def near(self, episode_id: str) -> set[str]:
        """The most similar episodes: those whose records may change with this one."""
        return {other for other, _ in self.similar(episode_id)[:MOST_SIMILAR]}


def take(
    fingerprints: Fingerprints, arrivals: Sequence[Arrival]
) -> tuple[dict[str, Entry | None], dict[str, dict[str, Any] | None]]:
    """Take over what has come: the entries that have changed, None for those that are gone, and
    the `episode_duplicates` records that may have, by episode.

    It compares each with everything: for a thread.
    """
    changed: dict[str, Entry | None] = {}
    touched: set[str] = set()
    for episode_id, offset, published_ms, fingerprint in arrivals:
        before = fingerprints.get(episode_id)
        if fingerprint == (before.fingerprint if before else b""):
            continue
        near = fingerprints.near(episode_id)
        touched |= near
        if before and (not fingerprint or near):
            touched.add(episode_id)
        if fingerprint:
            first = before.offset if before else offset
            entry = Entry.new(published_ms, first, fingerprint)
            fingerprints.put(episode_id, entry)
            changed[episode_id] = entry
            if near := fingerprints.near(episode_id):
                touched |= {episode_id, *near}
        else:
            fingerprints.drop(episode_id)
            changed[episode_id] = None
    return changed, {episode_id: fingerprints.report(episode_id) for episode_id in sorted(touched)}


def _row(fingerprint: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(fingerprint, dtype=np.uint8)
