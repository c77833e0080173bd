"""Lists by the two stages of a generation: candidates of a listener's history, then the ranker.

Four signals, each 0 to 1 and comparable within a list: those of `core.scoring`, and

- **ranked**: the ranker's score, 1 for the best of the shortlist and 0 for the last.

The ranker learned on held-out listening what each sign is worth, so that by the usual weights its
order is the order of the list. What `learn_blend` finds beyond the usual is added to it: content
and trending by as much as their weights lie above `DEFAULT_WEIGHTS`; and the ranked part counts
the less, the further the personal weight lies below.

An episode that the generation does not know has no score. By its text it gets the one in the same
place among the scores as its cosine has among those of known episodes. What a list costs follows
the history, the neighbours and the new episodes, never the size of the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.recommendation.core.foldin import Doubles, Floats
from streams.recommendation.core.generations import ListModel
from streams.recommendation.core.item_model import FEATURES, Candidates, History, candidates
from streams.recommendation.core.items import Items
from streams.recommendation.core.ranker import Shortlist, scores, shortlist
from streams.recommendation.core.scoring import (
    DEFAULT_WEIGHTS,
    SCORE_DECIMALS,
    Profile,
    Ranked,
    ScoreParts,
    Shares,
    Signals,
    recommend,
    standings,
    taste,
)

MOST_NEW = 2_000
"""New episodes whose texts are compared, the latest ones."""

Rows = NDArray[np.int64]


def make_lists(
    items: Items, profiles: Sequence[Profile], weights: ScoreParts, count: int
) -> list[list[Ranked]]:
    """The ``count`` best episodes of each listener, best first: by the two stages of the newest
    generation if it has them and knows something that the listener heard, else by
    `scoring.recommend`."""
    ranked = [rank(items, one, weights, count) for one in profiles]
    others = [one for one, made in zip(profiles, ranked, strict=True) if made is None]
    blended = iter(recommend(items, others, weights, count) if others else ())
    return [made if made is not None else next(blended) for made in ranked]


def ranked_weights(weights: ScoreParts) -> Shares:
    """What the signals of a ranked list weigh, with sum 1, by the weights of the blend."""
    usual = DEFAULT_WEIGHTS
    ranked = min(1.0, weights.als / usual.als)
    content = max(0.0, weights.content - usual.content)
    trending = max(0.0, weights.trending - usual.trending)
    total = ranked + content + trending
    return Shares(0.0, content / total, trending / total, ranked / total)


def history_of(lists: ListModel, one: Profile) -> History:
    """What the generation knows of a listener's episodes, oldest first, ties by place."""
    places = lists.places(one.rows)
    known = np.flatnonzero((places >= 0) & (one.strengths != 0))
    known = known[np.lexsort((places[known], one.at[known]))]
    return History(places[known], one.strengths[known], one.at[known])


def rank(items: Items, one: Profile, weights: ScoreParts, count: int) -> list[Ranked] | None:
    """The list of a listener by the two stages, None where there are none for it."""
    lists = items.factors.lists if items.factors else None
    if lists is None:
        return None
    history = history_of(lists, one)
    heard = int(np.count_nonzero(history.strengths > 0))
    if not heard:
        return None
    settled = lists.places(one.settled)
    excluded = np.concatenate([settled[settled >= 0], items.withheld])
    found = candidates(lists.model, history, excluded)
    listed = shortlist(found, heard)
    values = _scaled_scores(lists, listed)
    standing = standings(items, one)
    known = _Known(lists.rows[listed.items], values)
    signals = _signals(items, lists, one, found, known, standing)
    return _best(items, one, signals, ranked_weights(weights), count)


class _Known(NamedTuple):
    """Rows of the shortlist, and what the ranker gives them, 0 to 1."""

    rows: Rows
    values: Doubles


@dataclass(frozen=True)
class _SignalColumns:
    """Rows that a list may take from, and their signals; ``fit`` is what counts as the ranked part,
    which for those that are ``new`` comes from their content."""

    rows: Rows
    als: Doubles
    content: Doubles
    trending: Doubles
    fit: Doubles
    new: NDArray[np.bool_]


def _scaled_scores(lists: ListModel, listed: Shortlist) -> Doubles:
    values = scores(lists.ranker, listed).astype(np.float64)
    if not len(values):
        return values
    lowest, highest = values.min(), values.max()
    return (values - lowest) / (highest - lowest) if highest > lowest else np.ones(len(values))


def _signals(
    items: Items,
    lists: ListModel,
    one: Profile,
    found: Candidates,
    known: _Known,
    standing: dict[int, float],
) -> _SignalColumns:
    """The shortlist, what is trending, and new episodes whose text is known."""
    fresh = items.newest_unknown[:MOST_NEW]
    rising = np.array([row for row in standing if row in items.episodes], dtype=np.int64)
    others = np.setdiff1d(np.concatenate([fresh, rising]), known.rows)
    rows = np.concatenate([known.rows, others[~np.isin(others, one.settled)]])
    new = lists.places(rows) < 0
    fit = np.zeros(len(rows))
    fit[: len(known.rows)] = known.values
    direction = taste(items, one)
    content = np.zeros(len(rows))
    if items.embeddings is not None and direction.any():
        matrix, present = items.embeddings.first(len(items))
        content = (matrix[rows] @ direction).astype(np.float64)
        compared = new & present[rows]
        usual = matrix[lists.references(present)] @ direction
        fit[compared] = _stand_in(content[compared], usual, known.values, len(lists.rows))
    trending = np.array([standing.get(row, 0.0) for row in rows.tolist()])
    return _SignalColumns(
        rows, _scaled(_als(lists, found, rows)), _scaled(content), trending, fit, new
    )


def _als(lists: ListModel, found: Candidates, rows: Rows) -> Doubles:
    """The preferences by ALS, 0 for rows that are no candidates of the generation."""
    result = np.zeros(len(rows))
    if len(found.items):
        places = lists.places(rows)
        at = np.minimum(np.searchsorted(found.items, places), len(found.items) - 1)
        there = found.items[at] == places
        result[there] = found.features[at[there], FEATURES.index("als")]
    return result


def _stand_in(cosines: Doubles, usual: Floats, values: Doubles, count: int) -> Doubles:
    """The scores in the places that some cosines have among the ``usual`` ones, as if those were
    of all the ``count`` known episodes; 0 beyond the shortlist, whose scores are ``values``."""
    if not len(usual) or not len(values):
        return np.zeros(len(cosines))
    above = len(usual) - np.searchsorted(np.sort(usual), cosines, side="right")
    place = above * count // len(usual)
    best = np.sort(values)[::-1]
    return np.where(place < len(best), best[np.minimum(place, len(best) - 1)], 0.0)


def _scaled(part: Doubles) -> Doubles:
    """Negative to 0, and the best to 1."""
    best = part.max(initial=0.0)
    return np.clip(part, 0.0, None) / best if best > 0 else np.zeros(len(part))


def _best(
    items: Items, one: Profile, found: _SignalColumns, weights: Shares, count: int
) -> list[Ranked]:
    """The best places, and where there are too few, the newest episodes after them."""
    fit = weights.ranked * found.fit
    content, trending = weights.content * found.content, weights.trending * found.trending
    by_score = np.round(fit + content + trending, SCORE_DECIMALS)
    best = np.lexsort((items.order[found.rows], -by_score))[:count]
    listed = []
    for at in best.tolist():
        new = bool(found.new[at])
        ranked = None if new else float(found.fit[at])
        listed.append(
            Ranked(
                int(found.rows[at]),
                float(by_score[at]),
                Signals(
                    float(found.als[at]),
                    float(found.content[at]),
                    float(found.trending[at]),
                    ranked,
                ),
                Shares(
                    0.0,
                    float(content[at] + (fit[at] if new else 0.0)),
                    float(trending[at]),
                    0.0 if new else float(fit[at]),
                ),
            )
        )
    return listed + _newest(items, one, listed, count - len(listed))


def _newest(items: Items, one: Profile, listed: list[Ranked], count: int) -> list[Ranked]:
    """The newest episodes that are not settled and not in the list, as places without a score."""
    if count <= 0:
        return []
    gone = {*one.settled.tolist(), *(place.row for place in listed)}
    rest = (row for row in map(int, items.newest) if row not in gone and row in items.episodes)
    nothing = Signals(0.0, 0.0, 0.0), Shares(0.0, 0.0, 0.0)
    return [Ranked(row, 0.0, *nothing) for row in islice(rest, count)]
