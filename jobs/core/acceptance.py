"""Whether a generation is good enough to be published: sound in itself, and no worse than the one
in service.

Two generations are judged on cuts of their own, as the later one has seen what the earlier one was
asked about. So a figure may fall because there is more to choose from, or because listening became
harder to foretell. Popularity, asked about the same cut, shows how far that is so: the one in
service is taken for worth what it was, moved as popularity moved, by the same amount or in the same
proportion, whichever is least. A generation is refused only if it falls short of that by the
margin, with the noise of both figures on its side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.core.interactions import Interactions, trainable
from jobs.core.list_training import DECISIVE, TWO_STAGE, ListTraining, Metrics
from streams.recommendation.core.catalogue import MODEL, Catalogue
from streams.recommendation.core.item_model import FEATURES
from streams.recommendation.core.soundness import (
    UnsoundError,
    check_factors,
    check_model,
    check_ranker,
)

POPULARITY = "popularity"

FEWEST_LISTENERS = 30
"""Of fewer listeners than these a figure says too little to refuse anything by."""

ERRORS = 2.0
"""So many standard errors of the difference are taken for noise."""

GROWN = 2.0
"""Trained on more than so many times the pairs, a generation is of another catalogue, and its
figures are not comparable."""


@dataclass(frozen=True)
class Worth:
    """What the lists of a generation were worth on its newest cut.

    ``model`` made them; ``ndcg`` is the mean nDCG@10 over ``listeners``, ``error`` its standard
    error and ``popularity`` that of popularity on the same cut. ``pairs`` were trained on.
    """

    model: str
    ndcg: float
    error: float
    listeners: int
    popularity: float
    pairs: int

    @classmethod
    def of_metrics(cls, metrics: Metrics, ranked: bool, pairs: int) -> Worth | None:
        """By the figures of a training, whose lists are ``ranked`` or blended; None where nobody
        had enough to be held out."""
        model = TWO_STAGE if ranked else MODEL
        if not (figures := metrics.get(model)):
            return None
        return cls(
            model,
            figures[DECISIVE],
            figures[f"{DECISIVE}_error"],
            int(figures["listeners"]),
            metrics[POPULARITY][DECISIVE],
            pairs,
        )

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Worth | None:
        """By a `model_generation` record; None where it does not say."""
        if (judged := record.get("judged")) is None:
            return None
        return cls(
            judged["model"],
            judged["ndcg_at_10"],
            judged["error"],
            judged["listeners"],
            judged["popularity"],
            record["interactions"],
        )

    def to_record(self) -> dict[str, Any]:
        """The field ``judged`` of a `model_generation` record."""
        return {
            "model": self.model,
            "listeners": self.listeners,
            "ndcg_at_10": self.ndcg,
            "error": self.error,
            "popularity": self.popularity,
        }


def check_training(items: NDArray[np.float32], pairs: Interactions, rank: int) -> None:
    """Raise UnsoundError unless every item that has a positive pair has factors that can be used.

    ``items`` are (m, rank) by index, rows of NaN for those without.
    """
    if items.shape != (len(pairs.items), rank):
        raise UnsoundError(f"factors {items.shape} of {len(pairs.items)} items of rank {rank}")
    heard = np.unique(trainable(pairs).item)
    check_factors(items[heard], rank)
    if (known := int((~np.isnan(items).all(axis=1)).sum())) != len(heard):
        raise UnsoundError(f"factors of {known} items, where {len(heard)} were heard")


def check_lists(lists: ListTraining, items: int) -> None:
    """Raise UnsoundError unless what lists are made with is of so many items, and finite."""
    if lists.model is None or lists.ranker is None:
        return
    if len(lists.model.listeners) != items:
        raise UnsoundError(f"neighbours of {len(lists.model.listeners)} items, not of {items}")
    check_model(lists.model)
    check_ranker(lists.ranker, len(FEATURES))


def worse(new: Worth | None, served: Worth | None, margin: float) -> str:
    """How much worse a generation is than the one in service, in words, if that is more than
    ``margin``, a share of what the latter is worth; empty if it is not, or nobody can say."""
    if new is None or served is None or min(new.listeners, served.listeners) < FEWEST_LISTENERS:
        return ""
    if new.pairs > GROWN * served.pairs:
        return ""
    expected = _expected(served, new.popularity)
    noise = ERRORS * math.hypot(new.error, served.error)
    if new.ndcg + noise >= (1.0 - margin) * expected:
        return ""
    return (
        f"nDCG@10 of {new.ndcg:.4f}, where the one in service would have {expected:.4f}: it had "
        f"{served.ndcg:.4f} when popularity had {served.popularity:.4f}, which has "
        f"{new.popularity:.4f} now. That is worse by more than {margin:.0%} and a noise of "
        f"{noise:.4f}"
    )


def _expected(served: Worth, popularity: float) -> float:
    """What the one in service is worth where popularity is worth so much."""
    moved = [served.ndcg, served.ndcg + popularity - served.popularity]
    if served.popularity > 0:
        moved.append(served.ndcg * popularity / served.popularity)
    return min(moved)


class Past:
    """What the log says of earlier trainings: a fold over the records of `model-generations`.

    ``offsets`` are those that the newest one has seen, refused or not, by source partition.
    """

    def __init__(self) -> None:
        self.newest = ""
        self.offsets: dict[int, int] = {}
        self.catalogue = Catalogue()
        self._records: dict[str, Mapping[str, Any]] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """A `model_generation` record."""
        name = record["generation"]
        if name > self.newest:
            self.newest = name
            self.offsets = {seen["source_partition"]: seen["offset"] for seen in record["offsets"]}
        self.catalogue.announce(record)
        kept = {name for names in self.catalogue.by_slot().values() for name in names}
        self._records = {n: r for n, r in {**self._records, name: record}.items() if n in kept}

    @property
    def in_service(self) -> Mapping[str, Any] | None:
        """The record of the generation that lists are made with, as far as the log says."""
        names = (name for name in self.catalogue.candidates() if name in self._records)
        return next((self._records[name] for name in names), None)
