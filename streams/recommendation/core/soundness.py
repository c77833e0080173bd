"""Whether the numbers of a generation are such that lists may be made of them.

What trains a generation asks before it publishes one, and what serves asks again: the log may hold
generations from elsewhere.
"""

from __future__ import annotations

import math

import numpy as np

from streams.recommendation.core.foldin import Floats, gram
from streams.recommendation.core.item_model import TABLES, ItemModel
from streams.recommendation.core.ranker import Ranker


class UnsoundError(ValueError):
    """A generation holds what no list may be made of; the text says what."""


def check_equations(alpha: float, regularization: float) -> None:
    """Raise UnsoundError unless listeners can be folded in with these."""
    if not (math.isfinite(alpha) and alpha >= 0):
        raise UnsoundError(f"a confidence (alpha) of {alpha}")
    if not (math.isfinite(regularization) and regularization > 0):
        raise UnsoundError(f"a regularisation of {regularization}")


def check_factors(vectors: Floats, rank: int) -> None:
    """Raise UnsoundError unless ``vectors`` are (n, rank), n > 0, of numbers that can be used."""
    if not len(vectors):
        raise UnsoundError("no item has factors")
    if rank < 1 or vectors.shape[1:] != (rank,):
        raise UnsoundError(f"factors of {vectors.shape[1:]} components, where {rank} are declared")
    if bad := int(np.count_nonzero(~np.isfinite(vectors).all(axis=1))):
        raise UnsoundError(f"{bad} of {len(vectors)} factors with numbers that are not finite")
    with np.errstate(over="ignore", invalid="ignore"):
        products = gram(vectors).astype(np.float32)
    if not np.isfinite(products).all():
        raise UnsoundError("factors too large to be multiplied")


def check_model(model: ItemModel) -> None:
    """Raise UnsoundError unless the neighbours of n episodes are of one size, and finite."""
    count, kept = model.neighbours.shape
    if model.weights.shape != (count, kept, len(TABLES)):
        raise UnsoundError(f"weights {model.weights.shape} of neighbours {(count, kept)}")
    for name in ("listeners", "liking", "first_at", "last_at"):
        if getattr(model, name).shape != (count,):
            raise UnsoundError(f"{name} of {len(getattr(model, name))} episodes, not of {count}")
    if kept and not -1 <= model.neighbours.min() <= model.neighbours.max() < count:
        raise UnsoundError(f"neighbours beyond the {count} episodes")
    for name in ("weights", "listeners", "liking"):
        if not np.isfinite(getattr(model, name)).all():
            raise UnsoundError(f"neighbours with {name} that are not finite")
    if (model.listeners < 0).any():
        raise UnsoundError("episodes with fewer listeners than none")


def check_ranker(ranker: Ranker, features: int) -> None:
    """Raise UnsoundError unless the coefficients of a ranker are as many as they should be for so
    many features, and finite."""
    units = len(ranker.bias)
    shapes = ((features,), (features,), (features + 1, units), (units,), (units,))
    for name, part, shape in zip(Ranker._fields, ranker, shapes, strict=True):
        if part.shape != shape:
            raise UnsoundError(f"a ranker of {units} units has {part.size} numbers in {name}")
        if not np.isfinite(part).all():
            raise UnsoundError(f"a ranker with numbers in {name} that are not finite")
