"""What episodes say of each other, and what that says of the candidates of one listener.

For every episode there is a short list of neighbours with one weight a table (`TABLES`):

- **ease**: by how much hearing the one speaks for the other once all others are accounted for
  (H. Steck, "Embarrassingly shallow autoencoders", 2019); may be negative;
- **together**: how many listeners of the one also heard the other, each counting less the more
  they heard, and popular episodes counting less (RP3beta: F. Christoffel et al., 2015);
- **near**: how often both were heard soon after one another.

A list looks only at the neighbours of what its listener heard, and at the most popular episodes.
What it costs follows the history and the number of neighbours, never the size of the catalogue.
Each candidate is described by one number for each of `FEATURES`, from which `core.ranker` makes
one score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.units import DAY_MS
from streams.recommendation.core.foldin import Doubles, Floats, fold_in

TABLES = ("ease", "together", "near")
NO_EPISODE = -1
RECENT_HALF_LIFE = 5.0
"""In the features of what was heard lately, an episode counts half of the fifth after it."""

POPULAR = 100
"""Episodes with most listeners, which are candidates for everybody."""

MOST_HEARD = 300
"""Episodes of a history whose neighbours are looked at, the latest ones."""

FEATURES = (
    *TABLES,
    *(f"{name}_recent" for name in TABLES),
    "ease_liked",
    "near_most",
    "als",
    "als_recent",
    "popularity",
    "liking",
    "age",
    "unheard_yet",
    "staleness",
)
"""Names of the columns of `Candidates.features`. The tables summed over the history; the same,
what was heard last counting most; `ease` by what the listener thought of each; the strongest
single neighbour by `near`; the preference by ALS, and the same of what was heard last. Then what
the episode has of its own: the logarithm of the number of its listeners, the mean strength of
those, the days since it was first heard by anyone and whether that lies in the listener's future,
and the days since it was last heard."""


@dataclass(frozen=True)
class Factors:
    """ALS factors of the episodes (n, rank), zeros where there are none, and their equations."""

    vectors: Floats
    gram: Doubles
    alpha: float
    regularization: float


@dataclass(frozen=True)
class ItemModel:
    """What was learned of n episodes with k neighbours each, by index.

    ``neighbours`` (n, k) holds indices, `NO_EPISODE` where there are fewer; ``weights``
    (n, k, tables) belongs to it. ``listeners`` counts who heard an episode, ``liking`` is the
    mean strength of those; ``first_at`` and ``last_at`` are the times of the first and the last
    pair, ms since 1970. ``popular`` are the indices that are candidates for everybody.
    """

    neighbours: NDArray[np.int32]
    weights: Floats
    listeners: Floats
    liking: Floats
    first_at: NDArray[np.int64]
    last_at: NDArray[np.int64]
    popular: NDArray[np.int64]
    factors: Factors | None = None


@dataclass(frozen=True)
class History:
    """What one listener did, oldest first: indices of episodes, strengths (see
    `core.confidence`) and times, ms since 1970; one entry an episode."""

    items: NDArray[np.int64]
    strengths: Floats
    at: NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """Episodes that a list may take from: ascending indices (m,), and their features
    (m, `FEATURES`)."""

    items: NDArray[np.int64]
    features: Floats


def most_heard(listeners: Floats) -> NDArray[np.int64]:
    """The indices of the episodes that are candidates for everybody, by their listeners."""
    count = min(POPULAR, int(np.count_nonzero(listeners)))
    return np.argsort(-listeners, kind="stable")[:count]


def candidates(
    model: ItemModel, history: History, excluded: NDArray[np.int64] | None = None
) -> Candidates:
    """The neighbours of what was heard and the most popular, without ``excluded``, described."""
    heard = history.strengths > 0
    items = history.items[heard][-MOST_HEARD:]
    near = model.neighbours[items]
    known = near != NO_EPISODE
    found, place = np.unique(np.concatenate([near[known], model.popular]), return_inverse=True)
    place = place[: np.count_nonzero(known)]
    weights = model.weights[items][known].astype(np.float64)
    newest_first = np.arange(len(items))[::-1]
    recency = np.exp2(-newest_first / RECENT_HALF_LIFE)
    recent = np.broadcast_to(recency[:, None], near.shape)[known]
    said = _relative(history.strengths[heard])[-MOST_HEARD:]
    liked = np.broadcast_to(said[:, None], near.shape)[known]

    def summed(values: Doubles) -> Doubles:
        return np.bincount(place, values, minlength=len(found)).astype(np.float64)

    tables = weights.T
    most = np.zeros(len(found))
    np.maximum.at(most, place, tables[TABLES.index("near")])
    als, als_recent = _preferences(model, history, found)
    now = history.at.max() if len(history.at) else model.last_at.max(initial=0)
    age = (now - model.first_at[found]) / DAY_MS
    columns = [
        *(summed(table) for table in tables),
        *(summed(table * recent) for table in tables),
        summed(tables[TABLES.index("ease")] * liked),
        most,
        als,
        als_recent,
        np.log1p(model.listeners[found]),
        model.liking[found],
        np.log1p(np.maximum(age, 0.0)),
        (age < 0).astype(np.float64),
        np.log1p(np.maximum(now - model.last_at[found], 0) / DAY_MS),
    ]
    features = np.stack(columns, axis=1).astype(np.float32)
    if excluded is not None:
        kept = ~np.isin(found, excluded)
        found, features = found[kept], features[kept]
    return Candidates(found.astype(np.int64), features)


def _relative(strengths: Floats) -> Doubles:
    """Strengths as what the listener thought: about 0 for the usual, above it for better."""
    if not len(strengths):
        return np.zeros(0)
    mean = float(strengths.mean())
    return strengths.astype(np.float64) / mean - 0.5


def _preferences(
    model: ItemModel, history: History, found: NDArray[np.int64]
) -> tuple[Doubles, Doubles]:
    """The preferences of ALS by all that was heard, and by what was heard last."""
    factors = model.factors
    if factors is None or not len(history.items):
        return np.zeros(len(found)), np.zeros(len(found))
    newest_first = np.arange(len(history.items))[::-1]
    recency = np.exp2(-newest_first / RECENT_HALF_LIFE).astype(np.float32)
    vectors = factors.vectors[history.items]
    users = fold_in(
        factors.gram,
        [(vectors, history.strengths), (vectors, history.strengths * recency)],
        alpha=factors.alpha,
        regularization=factors.regularization,
    )
    by_all, by_last = users @ factors.vectors[found].T
    return by_all.astype(np.float64), by_last.astype(np.float64)
