"""Scores of every episode for a group of listeners, and the best of them.

Three parts, each 0 to 1 and comparable within a listener's list:

- **als**: the predicted preference xᵀy, negative taken as 0, divided by the listener's best one;
- **content**: the cosine to the weighted mean of the embeddings of what was liked, the same way;
- **trending**: the larger of the overall ranking and the category rankings, each scaled to 1 at
  its top and the latter times how much the listener hears of the category (a listener without
  history: one half of each).

Dividing by the best keeps the order and leaves 0 for "no sign". The score is the weighted mean
of the parts by the blend weights. A part that an episode cannot have (no factors before its first
training, no transcript) takes no weight from the other personal part. Cosines of texts lie closer
together than preferences, so a new episode that competes by its content is not measured by the
cosine itself: it gets the preference that stands in the same place among preferences as its cosine
among cosines. A listener without any history gets trending alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.units import DAY_MS
from streams.recommendation.core.foldin import Floats, fold_in
from streams.recommendation.core.items import Items
from streams.recommendation.core.listeners import ListenerState

HALF_LIFE_MS = 14 * DAY_MS
"""A liking counts half in the content profile when the listener's newest is two weeks younger."""

COLD_AFFINITY = 0.5
SCORE_DECIMALS = 6
_PLACES = 512


class ScoreParts(NamedTuple):
    """The parts of a blended score, or their weights."""

    als: float
    content: float
    trending: float


class Signals(NamedTuple):
    """The signals of a place in a list, each 0 to 1; ``ranked`` (see `core.two_stage`) is None
    where the place has none."""

    als: float
    content: float
    trending: float
    ranked: float | None = None


class Shares(NamedTuple):
    """A number for each of `Signals`: what it weighs, or what it adds to a score."""

    als: float
    content: float
    trending: float
    ranked: float = 0.0


DEFAULT_WEIGHTS = ScoreParts(0.5, 0.3, 0.2)


def mean_weights(records: Iterable[Mapping[str, Any]]) -> ScoreParts:
    """The mean of `blend_weights` records of source partitions, scaled to sum to 1."""
    rows = [[max(0.0, float(record[name])) for name in ScoreParts._fields] for record in records]
    mean = np.mean(rows, axis=0) if rows else np.asarray(DEFAULT_WEIGHTS)
    total = float(mean.sum())
    return ScoreParts(*(mean / total).tolist()) if total > 0 else DEFAULT_WEIGHTS


@dataclass(frozen=True)
class Profile:
    """A listener in rows of `Items`.

    ``rows`` are the episodes that the listener did something with; one number for each have
    ``strengths`` (see `core.confidence`) and ``recency``, 1 for the newest and halved every
    `HALF_LIFE_MS`, and ``at``, the time of the last event, ms since 1970. ``settled`` are the rows
    not to be recommended again; ``affinities`` are by category, 1 for the one heard most.
    """

    rows: NDArray[np.int64]
    strengths: Floats
    recency: Floats
    at: NDArray[np.int64]
    settled: NDArray[np.int64]
    affinities: dict[str, float]

    @property
    def cold(self) -> bool:
        """Whether nothing is known that speaks for any episode."""
        return not np.any(self.strengths > 0)


def profile(listener: ListenerState, items: Items) -> Profile:
    """The profile of a listener, as far as ``items`` knows the episodes."""
    rows = np.array([items.row(e) for e in listener.episodes], dtype=np.int64)
    heard = list(listener.episodes.values())
    last_at = np.array([h.last_at for h in heard], dtype=np.float64)
    age = last_at.max() - last_at if heard else last_at
    strengths = listener.strengths()
    recency = np.exp2(-age / HALF_LIFE_MS).astype(np.float32)
    affinities: dict[str, float] = {}
    for row, weight in zip(rows.tolist(), (strengths * recency).tolist(), strict=True):
        episode = items.episodes.get(row)
        if weight > 0 and episode:
            for category in episode.categories:
                affinities[category] = affinities.get(category, 0.0) + weight
    most = max(affinities.values(), default=1.0)
    return Profile(
        rows=rows,
        strengths=strengths,
        recency=recency,
        at=np.array([h.last_at for h in heard], dtype=np.int64),
        settled=rows[np.array([h.settled for h in heard], dtype=bool)] if heard else rows,
        affinities={category: weight / most for category, weight in affinities.items()},
    )


class Ranked(NamedTuple):
    """A place in a list. ``earned`` is what each of the signals in ``parts`` adds to ``score``."""

    row: int
    score: float
    parts: Signals
    earned: Shares


def recommend(
    items: Items, profiles: Sequence[Profile], weights: ScoreParts, count: int
) -> list[list[Ranked]]:
    """The ``count`` best episodes of each listener, best first: only episodes whose record is
    known, without what was settled; among equals the newest, then the first by episode_id."""
    als, has_als = _als(items, profiles)
    content, has_content = _content(items, profiles)
    trending = _trending(items, profiles)
    allowed = np.broadcast_to(items.candidates, trending.shape).copy()
    for listener, one in enumerate(profiles):
        allowed[listener, one.settled] = False
    for part in (als, content):
        _scale(part, allowed)
    fit = content.copy()
    _stand_in(fit, als, has_als & allowed, has_content & allowed, weights)
    als_weight = np.float32(weights.als) * has_als
    content_weight = np.float32(weights.content) * has_content
    personal = als_weight + content_weight
    # A listener with a history keeps the personal weight also where an episode has no vector at
    # all: what is unknown shall not beat what fits.
    warm = personal.any(axis=1, keepdims=True)
    full = np.where(warm, np.float32(weights.als + weights.content), np.float32(0))
    per_weight = np.divide(full, personal, out=np.zeros_like(personal), where=personal > 0)
    total = full + np.float32(weights.trending)
    per_weight /= np.maximum(total, np.finfo(np.float32).tiny)
    # Without a personal part the ranking stands alone, whatever weight it was given.
    trend_weight = np.where(warm, np.float32(weights.trending) / np.maximum(total, 1e-9), 1.0)
    earned = (
        als * als_weight * per_weight,
        fit * content_weight * per_weight,
        trending * trend_weight,
    )
    scores = np.round(earned[0] + earned[1] + earned[2], SCORE_DECIMALS)
    lists = []
    for listener, best in enumerate(_top(scores, allowed, items.order, count)):
        columns = [matrix[listener, best].tolist() for matrix in (als, content, trending, *earned)]
        lists.append(
            [
                Ranked(row, min(1.0, max(0.0, score)), Signals(a, c, t), Shares(ea, ec, et))
                for row, score, a, c, t, ea, ec, et in zip(
                    best.tolist(), scores[listener, best].tolist(), *columns, strict=True
                )
            ]
        )
    return lists


def _als(items: Items, profiles: Sequence[Profile]) -> tuple[Floats, NDArray[np.bool_]]:
    """Predicted preferences (listeners, rows), and where there are any."""
    shape = (len(profiles), len(items))
    if items.factors is None:
        return np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool)
    matrix, present = items.factors.vectors.first(len(items))
    histories = []
    for one in profiles:
        known = present[one.rows] & (one.strengths != 0)
        histories.append((matrix[one.rows[known]], one.strengths[known]))
    vectors = fold_in(
        items.factors.gram,
        histories,
        alpha=items.factors.alpha,
        regularization=items.factors.regularization,
    )
    return vectors @ matrix.T, np.any(vectors, axis=1, keepdims=True) & present


def _content(items: Items, profiles: Sequence[Profile]) -> tuple[Floats, NDArray[np.bool_]]:
    """Cosines (listeners, rows), and where there are any."""
    shape = (len(profiles), len(items))
    if items.embeddings is None:
        return np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool)
    matrix, present = items.embeddings.first(len(items))
    tastes = np.stack([taste(items, one) for one in profiles])
    return tastes @ matrix.T, tastes.any(axis=1, keepdims=True) & present


def taste(items: Items, one: Profile) -> Floats:
    """The direction (dimension,) of what a listener liked, a unit vector; 0 where there is none."""
    if items.embeddings is None:
        return np.zeros(0, dtype=np.float32)
    matrix, _ = items.embeddings.first(len(items))
    rows, weights = liked(one)
    mean: Floats = weights @ matrix[rows]
    norm = np.linalg.norm(mean)
    return mean / norm if norm > 0 else mean


def liked(one: Profile) -> tuple[NDArray[np.int64], Floats]:
    """Rows of what was liked, and their weights: the strengths times the recency."""
    positive = one.strengths > 0
    return one.rows[positive], one.strengths[positive] * one.recency[positive]


def standings(items: Items, one: Profile) -> dict[int, float]:
    """The scaled place of each row that is in a ranking that counts for a listener."""
    found = dict(items.overall)
    for category, ranking in items.by_category.items():
        if affinity := COLD_AFFINITY if one.cold else one.affinities.get(category, 0.0):
            for row, place in ranking.items():
                found[row] = max(found.get(row, 0.0), affinity * place)
    return found


def _trending(items: Items, profiles: Sequence[Profile]) -> Floats:
    """Scaled places in the rankings (listeners, rows); 0 where an episode is in none."""
    trending = np.zeros((len(profiles), len(items)), dtype=np.float32)
    overall = np.fromiter(items.overall, dtype=np.int64)
    trending[:, overall] = np.fromiter(items.overall.values(), dtype=np.float32)
    for category, ranking in items.by_category.items():
        affinity = np.array(
            [COLD_AFFINITY if p.cold else p.affinities.get(category, 0.0) for p in profiles],
            dtype=np.float32,
        )
        interested = np.flatnonzero(affinity)
        if len(interested):
            place = np.ix_(interested, np.fromiter(ranking, dtype=np.int64))
            scores = np.fromiter(ranking.values(), dtype=np.float32)
            trending[place] = np.maximum(trending[place], affinity[interested, None] * scores)
    return trending


def _stand_in(
    fit: Floats,
    als: Floats,
    has_als: NDArray[np.bool_],
    has_content: NDArray[np.bool_],
    weights: ScoreParts,
) -> None:
    """What content says of the episodes without factors, in place: for the missing preference the
    one in the same place among those that there are, averaged with the cosine by the weights.

    Beyond the best `_PLACES` all count as the last of these, which is below any list.
    """
    share = np.float32(weights.als / max(weights.als + weights.content, 1e-9))
    for values, known, preferences, cosine in zip(fit, has_als, als, has_content, strict=True):
        new = np.flatnonzero(cosine & ~known)
        if not len(new) or not known.any():
            continue
        most, best = _best(values[cosine]), _best(preferences[known])
        above = len(most) - np.searchsorted(most[::-1], values[new], side="right")
        place = above * np.count_nonzero(known) // np.count_nonzero(cosine)
        stands = best[np.minimum(place, len(best) - 1)]
        values[new] = share * stands + (1 - share) * values[new]


def _best(values: Floats) -> Floats:
    """The best `_PLACES` of some values, in falling order."""
    if len(values) > _PLACES:
        values = np.partition(values, len(values) - _PLACES)[-_PLACES:]
    return np.sort(values)[::-1]


def _scale(part: Floats, allowed: NDArray[np.bool_]) -> None:
    """Negative to 0, and each listener's best allowed to 1, in place."""
    np.maximum(part, 0.0, out=part)
    best = part.max(axis=1, where=allowed, initial=0.0)[:, None]
    np.divide(part, best, out=part, where=best > 0)
    np.minimum(part, 1.0, out=part)


def _top(
    scores: Floats, allowed: NDArray[np.bool_], order: NDArray[np.int64], count: int
) -> list[NDArray[np.int64]]:
    """The rows of each listener's best scores, best first, ties by ``order``."""
    lists = []
    for values, mask in zip(np.where(allowed, scores, -1.0), allowed, strict=True):
        wanted = min(count, int(np.count_nonzero(mask)))
        if wanted == 0:
            lists.append(np.zeros(0, dtype=np.int64))
            continue
        bar = np.partition(values, len(values) - wanted)[len(values) - wanted]
        above = np.flatnonzero(values > bar)
        level = np.flatnonzero(values == bar)
        spare = wanted - len(above)
        if spare < len(level):
            level = level[np.argpartition(order[level], spare)[:spare]]
        chosen = np.concatenate([above, level])
        lists.append(chosen[np.lexsort((order[chosen], -values[chosen]))])
    return lists
