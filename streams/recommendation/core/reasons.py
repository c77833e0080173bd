"""Why an episode is in a list, in words: by the part that contributes most to its score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streams.recommendation.core.items import Items
from streams.recommendation.core.listeners import ListenerState
from streams.recommendation.core.scoring import COLD_AFFINITY, Profile, Ranked, liked

ALIKE = "People who listen like you"
_MOST_COMPARED = 100


def explain(
    items: Items, listener: ListenerState, one: Profile, ranking: Sequence[Ranked]
) -> list[str]:
    """One reason for each place of a list."""
    sources = _nearest_liked(items, one, [place.row for place in ranking])
    return [
        _reason(items, listener, one, place, source)
        for place, source in zip(ranking, sources, strict=True)
    ]


def _reason(
    items: Items, listener: ListenerState, one: Profile, place: Ranked, source: int | None
) -> str:
    als, content, trending, ranked = place.earned
    alike = als + ranked
    if content > 0 and content >= max(alike, trending):
        if source is not None:
            heard = listener.episodes[items.ids[source]]
            verb = "finished" if heard.completes else "listened to"
            return f"Because you {verb} “{items.episodes[source].title}”"
        return ALIKE if alike > 0 else _new(items, place.row)
    if alike > 0 and alike >= trending:
        return ALIKE
    if trending > 0:
        return _trending(items, one, place.row)
    return _new(items, place.row)


def _trending(items: Items, one: Profile, row: int) -> str:
    """The ranking in which the episode stands highest for this listener."""
    best, scope = items.overall.get(row, 0.0), "now"
    for category, ranking in items.by_category.items():
        affinity = COLD_AFFINITY if one.cold else one.affinities.get(category, 0.0)
        if ranking.get(row, 0.0) * affinity > best:
            best, scope = ranking[row] * affinity, f"in {category}"
    return f"Trending {scope}"


def _new(items: Items, row: int) -> str:
    categories = items.episodes[row].categories
    return f"New in {categories[0]}" if categories else "New"


def _nearest_liked(items: Items, one: Profile, rows: Sequence[int]) -> list[int | None]:
    """For each row, the liked episode with the nearest embedding whose title is known."""
    embeddings = items.embeddings
    liked_rows, weights = liked(one)
    if embeddings is None or not len(liked_rows):
        return [None] * len(rows)
    matrix, present = embeddings.first(len(items))
    newest = liked_rows[np.argsort(-weights, kind="stable")]
    known = [r for r in newest.tolist() if present[r] and r in items.episodes][:_MOST_COMPARED]
    if not known:
        return [None] * len(rows)
    nearest = np.argmax(matrix[list(rows)] @ matrix[known].T, axis=1)
    return [known[i] if present[row] else None for row, i in zip(rows, nearest, strict=True)]
