"""Why an episode is in a list, in words: by the part that contributes most to its score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streams.recommendation.core.item_model import MOST_HEARD, TABLES
from streams.recommendation.core.items import Items
from streams.recommendation.core.listeners import ListenerState
from streams.recommendation.core.scoring import COLD_AFFINITY, Profile, Ranked, liked
from streams.recommendation.core.two_stage import history_of

ALIKE = "People who listen like you"
_MOST_COMPARED = 100


def explain(
    items: Items, listener: ListenerState, one: Profile, ranking: Sequence[Ranked]
) -> list[str]:
    """One reason for each place of a list."""
    rows = [place.row for place in ranking]
    sources, beside = _nearest_liked(items, one, rows), _heard_beside(items, one, rows)
    return [
        _reason(items, listener, one, place, source, beside.get(place.row))
        for place, source in zip(ranking, sources, strict=True)
    ]


def _reason(
    items: Items,
    listener: ListenerState,
    one: Profile,
    place: Ranked,
    source: int | None,
    beside: int | None,
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
        if ranked > als and beside is not None:
            return f"Heard by listeners of “{items.episodes[beside].title}”"
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


def _heard_beside(items: Items, one: Profile, rows: Sequence[int]) -> dict[int, int]:
    """For those of the rows that the generation calls neighbours of what was heard: the heard
    episode that most listeners have in common with it, of those whose title is known."""
    lists = items.factors.lists if items.factors else None
    if lists is None or not rows:
        return {}
    history = history_of(lists, one)
    heard = history.items[history.strengths > 0][-MOST_HEARD:]
    heard = heard[[row in items.episodes for row in lists.rows[heard].tolist()]]
    near = lists.model.neighbours[heard]
    shared = lists.model.weights[heard, :, TABLES.index("together")]
    wanted = lists.places(np.array(rows, dtype=np.int64))
    at, slot = np.nonzero(np.isin(near, wanted[wanted >= 0]) & (shared > 0))
    weakest_first = np.argsort(shared[at, slot], kind="stable")
    at, slot = at[weakest_first], slot[weakest_first]
    found = zip(lists.rows[near[at, slot]].tolist(), lists.rows[heard[at]].tolist(), strict=True)
    return dict(found)


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
