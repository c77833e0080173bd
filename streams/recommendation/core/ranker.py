"""One score out of the features of a candidate, by a small network that was learned from cuts.

Features are compared within a list: `shortlist` keeps the best by a plain sum, and each feature
is centred and scaled over these. The score is linear in the features, in the features times the
length of the history, and in a layer of rectified units of both, so that what speaks for an
episode may count more for who heard much, or only together with something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.recommendation.core.foldin import Floats
from streams.recommendation.core.item_model import FEATURES, Candidates

SHORTLIST = 300
_SUMMED = tuple(
    FEATURES.index(name) for name in ("ease", "together", "together_recent", "near_recent", "als")
)
_USUAL_LOG_LENGTH = 4.0
_LEAST_SPREAD = 1e-6


class Ranker(NamedTuple):
    """The coefficients, float32: ``linear`` (d,) and ``by_length`` (d,) of the d features,
    ``hidden`` (d + 1, h) with ``bias`` (h,) of the units, the length of the history being the last
    input, and ``output`` (h,)."""

    linear: Floats
    by_length: Floats
    hidden: Floats
    bias: Floats
    output: Floats


@dataclass(frozen=True)
class Shortlist:
    """The candidates worth ranking: indices (m,), standardised features (m, d), and the length of
    the history as the ranker takes it."""

    items: NDArray[np.int64]
    features: Floats
    length: float


def shortlist(found: Candidates, heard: int, count: int = SHORTLIST) -> Shortlist:
    """The best ``count`` candidates by the sum of their main features, ties by index."""
    items, features = found.items, found.features
    if len(items) > count:
        total = _standardised(features[:, _SUMMED]).sum(axis=1)
        best = np.sort(np.argsort(-total, kind="stable")[:count])
        items, features = items[best], features[best]
    length = float(np.log1p(heard)) - _USUAL_LOG_LENGTH
    return Shortlist(items, _standardised(features), length)


def scores(ranker: Ranker, listed: Shortlist) -> Floats:
    """The score of each candidate, (m,); comparable within the list only."""
    features = listed.features
    linear = features @ (ranker.linear + listed.length * ranker.by_length)
    units = features @ ranker.hidden[:-1] + (listed.length * ranker.hidden[-1] + ranker.bias)
    result: Floats = linear + np.maximum(units, 0.0) @ ranker.output
    return result


def average(rankers: list[Ranker]) -> Ranker:
    """One ranker whose scores are the mean of those of ``rankers``, which is not empty."""
    share = np.float32(1.0 / len(rankers))
    return Ranker(
        np.mean([one.linear for one in rankers], axis=0, dtype=np.float32),
        np.mean([one.by_length for one in rankers], axis=0, dtype=np.float32),
        np.concatenate([one.hidden for one in rankers], axis=1),
        np.concatenate([one.bias for one in rankers]),
        np.concatenate([one.output for one in rankers]) * share,
    )


def _standardised(features: Floats) -> Floats:
    if not len(features):
        return features
    spread = features.std(axis=0, dtype=np.float64)
    centred = features - features.mean(axis=0, dtype=np.float64)
    result: Floats = (centred / (spread + _LEAST_SPREAD)).astype(np.float32)
    return result
