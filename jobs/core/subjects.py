"""Subjects: groups of near vectors that keep their names as episodes arrive.

Outside they are called topics (`topics`, `episode-topics`); here a topic is one of Kafka's.

Spherical k-means (I. Dhillon, D. Modha, 2001) that begins where it ended the last time, so that a
subject stays what it was; more are added as the catalogue grows. Between two groupings an episode
joins the nearest subject. A label are the phrases of highest class-based TF-IDF (M. Grootendorst,
"BERTopic", 2022).
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 20
"""With fewer episodes there are no subjects."""

GROWTH = 1.1
"""Subjects are grouped anew when there are this many times the episodes of the last time."""

MOST = 60
LABEL_PHRASES = 3

_ITERATIONS = 25
_DRAWS, _SAMPLE = 8, 5_000
_STILL_THE_SAME = 0.6
"""Cosine of a centroid with what it was before, below which it is another subject."""

Phrases = Sequence[tuple[str, float]]
"""Keyphrases of an episode and their scores."""


@dataclass(frozen=True, slots=True)
class Subject:
    """``centroid``: a unit vector (d,); ``size``: episodes when they were counted last."""

    subject_id: str
    label: str
    size: int
    centroid: NDArray[np.float32]


class Subjects:
    """The subjects so far; ``grouped`` is the number of episodes at the last grouping."""

    def __init__(self, subjects: Sequence[Subject] = ()):
        self._ids = [subject.subject_id for subject in subjects]
        self._labels = [subject.label for subject in subjects]
        self._centroids = np.array([subject.centroid for subject in subjects], dtype=np.float32)
        self._sizes = np.array([subject.size for subject in subjects], dtype=np.int64)
        self.grouped = int(self._sizes.sum())

    def due(self, episodes: int, interrupted: bool = False) -> bool:
        """Whether so many episodes deserve another grouping, the last one having been cut off."""
        return episodes >= FEWEST and (interrupted or episodes >= GROWTH * self.grouped)

    def regroup(self, vectors: NDArray[np.float32], phrases: Sequence[Phrases]) -> set[str]:
        """Group n episodes anew: their unit vectors (n, d), and keyphrases of each.

        Returns the ids of the subjects that are no more.
        """
        before = dict(zip(self._ids, self._centroids, strict=True))
        wanted = min(MOST, max(len(self._ids), round(math.sqrt(len(vectors) / 2))))
        centroids = _converge(vectors, _start(vectors, self._centroids, wanted))
        members = np.argmax(vectors @ centroids.T, axis=1)
        sizes = np.bincount(members, minlength=len(centroids))
        kept = np.flatnonzero(sizes)
        ids = []
        for place in kept.tolist():
            old = self._ids[place] if place < len(self._ids) else ""
            same = old and float(before[old] @ centroids[place]) >= _STILL_THE_SAME
            ids.append(old if same else _new_id(centroids[place]))
        self._ids, self._centroids, self._sizes = ids, centroids[kept], sizes[kept]
        self._labels = labels(np.searchsorted(kept, members), phrases, len(kept))
        self.grouped = len(vectors)
        return before.keys() - set(ids)

    def assign(self, vectors: NDArray[np.float32]) -> list[tuple[str, float]]:
        """(Subject, cosine with its centroid) of all episodes; none before the first grouping."""
        if not self._ids or not len(vectors):
            self._sizes = np.zeros(len(self._ids), dtype=np.int64)
            return []
        cosines = vectors @ self._centroids.T
        members = np.argmax(cosines, axis=1)
        self._sizes = np.bincount(members, minlength=len(self._ids))
        scores = cosines[np.arange(len(vectors)), members]
        return [(self._ids[m], float(s)) for m, s in zip(members, scores, strict=True)]

    def all(self) -> list[Subject]:
        """All subjects, in the order of their centroids."""
        columns = zip(self._ids, self._labels, self._sizes.tolist(), self._centroids, strict=True)
        return [Subject(*column) for column in columns]


def _start(
    vectors: NDArray[np.float32], known: NDArray[np.float32], wanted: int
) -> NDArray[np.float32]:
    """Centroids to begin with: of several draws, on a sample, those that fit best in the end."""
    sample = vectors[:: -(-len(vectors) // _SAMPLE)]
    dice = np.random.default_rng(len(vectors))  # the same episodes give the same subjects
    drawn = [
        _converge(sample, _seeds(sample, known, wanted, dice))
        for _ in range(_DRAWS if wanted > len(known) else 1)
    ]
    return max(drawn, key=lambda centroids: float((sample @ centroids.T).max(axis=1).sum()))


def _seeds(
    vectors: NDArray[np.float32],
    known: NDArray[np.float32],
    wanted: int,
    dice: np.random.Generator,
) -> NDArray[np.float32]:
    """The known centroids and as many episodes as are wanting, drawn as in k-means++."""
    seeds = list(known) or [vectors[dice.integers(len(vectors))]]
    nearest = np.max(vectors @ np.array(seeds).T, axis=1)
    while len(seeds) < wanted:
        distance = np.maximum(0.0, 1.0 - nearest.astype(np.float64))
        if distance.sum() < 1e-6:  # all are at a seed already
            break
        seeds.append(vectors[dice.choice(len(vectors), p=distance / distance.sum())])
        nearest = np.maximum(nearest, vectors @ seeds[-1])
    return np.array(seeds, dtype=np.float32)


def _converge(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centroids (k, d) as the directions of their members' sums; one without any stays."""
    members: NDArray[np.int64] | None = None
    for _ in range(_ITERATIONS):
        nearest = np.argmax(vectors @ centroids.T, axis=1)
        if members is not None and np.array_equal(nearest, members):
            break
        members = nearest
        sums = np.array([vectors[members == k].sum(axis=0) for k in range(len(centroids))])
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        directions = sums / np.maximum(norms, 1e-9)
        centroids = np.where(norms > 1e-6, directions, centroids).astype(np.float32)
    return centroids


def _new_id(centroid: NDArray[np.float32]) -> str:
    """Never given twice, also after a restart that has forgotten subjects that are no more."""
    return hashlib.sha256(centroid.tobytes()).hexdigest()[:12]


def labels(members: NDArray[np.int64], phrases: Sequence[Phrases], count: int) -> list[str]:
    """A label for each of ``count`` subjects; ``members`` are the subjects of the episodes.

    Class-based TF-IDF: the sum of a phrase's scores in a subject, times log(1 + A / f), where f is
    that sum over all subjects and A the average over subjects of what their phrases add up to.
    """
    said: list[defaultdict[str, float]] = [defaultdict(float) for _ in range(count)]
    for member, listed in zip(members.tolist(), phrases, strict=True):
        for phrase, score in listed:
            said[member][phrase] += score
    total: defaultdict[str, float] = defaultdict(float)
    for scores in said:
        for phrase, score in scores.items():
            total[phrase] += score
    average = sum(total.values()) / max(1, count)
    return [", ".join(_telling(scores, total, average)) for scores in said]


def _telling(scores: Mapping[str, float], total: Mapping[str, float], average: float) -> list[str]:
    scored = sorted(
        scores, key=lambda phrase: (-scores[phrase] * math.log1p(average / total[phrase]), phrase)
    )
    chosen: list[str] = []
    for phrase in scored:
        words = set(phrase.split())
        if not any(words & set(other.split()) for other in chosen):
            chosen.append(phrase)
        if len(chosen) == LABEL_PHRASES:
            break
    return chosen
