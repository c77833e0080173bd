"""Learning the ranker from cuts: what was held out of a history shall come first in its list.

A cut is (train, held). The item model and the factors are learned on its train; the features of
every listener's list come from the very functions that make lists, and the ranker is learned by
the loss of a whole list: the cross-entropy of the softmax of its scores with what was held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.core.evaluation import Scores
from jobs.core.interactions import Interactions
from jobs.core.item_item import learn_items
from streams.recommendation.core.foldin import Floats
from streams.recommendation.core.item_model import (
    FEATURES,
    Factors,
    History,
    ItemModel,
    candidates,
)
from streams.recommendation.core.ranker import (
    SHORTLIST,
    Ranker,
    Shortlist,
    average,
    scores,
    shortlist,
)

UNITS = 24
EPOCHS = 30
RATE = 0.01
DECAY = 0.01
LISTS_A_STEP = 256
"""Many lists a step and few steps: what is learned from single lists is not to be had again."""

MEMBERS = 3
"""Rankers that are learned from different starts and averaged."""

MOST_LISTS = 4_000
"""Lists of one cut that are learned from; of more listeners, evenly spaced ones."""

_BETAS, _TINY = (0.9, 0.999), 1e-8


class Examples(NamedTuple):
    """Lists to learn from: features (n, m, d), lengths (n,), and gains (n, m), which are 0 for
    what was not held out and NaN where a list has no such place."""

    features: Floats
    lengths: Floats
    gains: Floats


class Lesson(NamedTuple):
    """One cut, and the model that was learned on its ``train``."""

    train: Interactions
    held: Interactions
    model: ItemModel


Split = Callable[[Interactions], tuple[Interactions, Interactions]]
"""Cuts pairs into those that are learned from and those that are held out."""


def lessons(
    pairs: Interactions, split: Split, factors: Callable[[Interactions], Factors], count: int
) -> list[Lesson]:
    """At most ``count`` cuts, each of the train of the one before, while something is held out."""
    found: list[Lesson] = []
    left = pairs
    for _ in range(count):
        train, held = split(left)
        if not len(held):
            break
        found.append(Lesson(train, held, learn_items(train, factors(train))))
        left = train
    return found


class Histories:
    """The history of each listener of some pairs, by index."""

    def __init__(self, pairs: Interactions):
        self._order = np.lexsort((pairs.item, pairs.at, pairs.user))
        self._ends = np.cumsum(np.bincount(pairs.user, minlength=len(pairs.users)))
        self._pairs = pairs

    def of(self, listener: int) -> History:
        """The listener's pairs, oldest first."""
        start = self._ends[listener - 1] if listener else 0
        mine = self._order[start : self._ends[listener]]
        pairs = self._pairs
        return History(pairs.item[mine].astype(np.int64), pairs.strength[mine], pairs.at[mine])


def listed(model: ItemModel, history: History) -> Shortlist:
    """The shortlist of a listener who is shown nothing again that is in the history."""
    found = candidates(model, history, excluded=history.items)
    return shortlist(found, int(np.count_nonzero(history.strengths > 0)))


def examples(model: ItemModel, train: Interactions, held: Interactions) -> Examples:
    """The lists of the listeners with pairs in ``held``, of which something is in their list.

    What was held out counts by its strength.
    """
    listeners = np.unique(held.user)
    listeners = listeners[:: max(1, -(-len(listeners) // MOST_LISTS))]
    histories, wanted = Histories(train), Histories(held)
    features = np.zeros((len(listeners), SHORTLIST, len(FEATURES)), dtype=np.float32)
    lengths = np.zeros(len(listeners), dtype=np.float32)
    gains = np.full((len(listeners), SHORTLIST), np.nan, dtype=np.float32)
    for row, listener in enumerate(listeners.tolist()):
        one = listed(model, histories.of(listener))
        goal = wanted.of(listener)
        size = len(one.items)
        features[row, :size], lengths[row] = one.features, one.length
        gains[row, :size] = _gains(one.items, goal)
    useful = np.nansum(gains, axis=1) > 0
    return Examples(features[useful], lengths[useful], gains[useful])


def _gains(items: NDArray[np.int64], goal: History) -> Floats:
    order = np.argsort(goal.items)
    place = np.minimum(np.searchsorted(goal.items[order], items), len(order) - 1)
    hit = goal.items[order][place] == items
    return np.where(hit, np.maximum(goal.strengths[order][place], 0.0), 0.0).astype(np.float32)


def learn(cuts: Sequence[Examples], seed: int) -> Ranker | None:
    """A ranker from the lists of some cuts; None if there is nothing to learn from."""
    joined = Examples(*(np.concatenate(parts) for parts in zip(*cuts, strict=True)))
    if not len(joined.lengths):
        return None
    return average([_Learner(joined, seed + member).run() for member in range(MEMBERS)])


class _Learner:
    """Adam with decoupled weight decay, its rate falling to nothing by half a cosine."""

    def __init__(self, found: Examples, seed: int):
        self._found = found
        self._rng = np.random.default_rng(seed)
        inputs = found.features.shape[2]
        scale = 1.0 / np.sqrt(inputs)
        self._parts = {
            "linear": self._rng.uniform(-scale, scale, inputs),
            "by_length": np.zeros(inputs),
            "hidden": self._rng.uniform(-scale, scale, (inputs + 1, UNITS)),
            "bias": self._rng.uniform(-scale, scale, UNITS),
            "output": self._rng.uniform(-1.0, 1.0, UNITS) / np.sqrt(UNITS),
        }
        self._parts = {name: part.astype(np.float32) for name, part in self._parts.items()}
        self._means = {name: np.zeros_like(part) for name, part in self._parts.items()}
        self._squares = {name: np.zeros_like(part) for name, part in self._parts.items()}

    def run(self) -> Ranker:
        count = len(self._found.lengths)
        steps = EPOCHS * -(-count // LISTS_A_STEP)
        step = 0
        for _ in range(EPOCHS):
            order = self._rng.permutation(count)
            for start in range(0, count, LISTS_A_STEP):
                step += 1
                rate = RATE * 0.5 * (1.0 + np.cos(np.pi * step / steps))
                self._step(order[start : start + LISTS_A_STEP], rate, step)
        return Ranker(**self._parts)

    def _step(self, chosen: NDArray[np.int64], rate: float, step: int) -> None:
        first, second = _BETAS
        for name, slope in gradient(Ranker(**self._parts), self._found, chosen)._asdict().items():
            mean, square = self._means[name], self._squares[name]
            mean += (1 - first) * (slope - mean)
            square += (1 - second) * (slope * slope - square)
            move = (mean / (1 - first**step)) / (np.sqrt(square / (1 - second**step)) + _TINY)
            self._parts[name] -= np.float32(rate) * (move + np.float32(DECAY) * self._parts[name])


def _targets(values: Floats, gains: Floats) -> tuple[Floats, Floats, Floats]:
    """Wanted share of each place, weight of each list, and softmax of the scores."""
    there = ~np.isnan(gains)
    gain = np.where(there, gains, 0.0)
    share = gain / gain.sum(axis=1, keepdims=True)
    weight = np.sqrt(np.count_nonzero(gain, axis=1)).astype(np.float32)
    shifted = np.where(there, values, -np.inf)
    powers = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return share, weight, powers / powers.sum(axis=1, keepdims=True)


def gradient(ranker: Ranker, found: Examples, chosen: NDArray[np.int64]) -> Ranker:
    """The slope of the loss by each coefficient: the mean, over the ``chosen`` lists, of the
    cross-entropy with the shares of what was held out, a list counting by the root of its hits."""
    features, lengths, gains = (part[chosen] for part in found)
    length = lengths[:, None]
    units = features @ ranker.hidden[:-1]
    units += (length * ranker.hidden[-1] + ranker.bias)[:, None, :]
    on = units > 0
    units *= on
    values = np.einsum("nmd,nd->nm", features, ranker.linear + length * ranker.by_length)
    values += units @ ranker.output
    share, weight, probability = _targets(values, gains)
    slope = ((probability - share) * (weight / len(chosen))[:, None]).astype(np.float32)
    by_list = np.einsum("nm,nmd->nd", slope, features)
    back = on * ranker.output
    back *= slope[..., None]
    width = len(ranker.bias)
    flat = features.reshape(-1, features.shape[2]).T @ back.reshape(-1, width)
    by_unit = back.sum(axis=1)
    return Ranker(
        by_list.sum(axis=0),
        (by_list * length).sum(axis=0),
        np.vstack([flat, (by_unit * length).sum(axis=0)]),
        by_unit.sum(axis=0),
        np.einsum("nm,nmh->h", slope, units),
    )


def item_item(model: ItemModel, train: Interactions) -> Scores:
    """The scores of what `ease` says alone of the candidates; NaN for all others."""
    histories, column = Histories(train), FEATURES.index("ease")

    def score(listeners: NDArray[np.int64]) -> NDArray[np.float64]:
        result = np.full((len(listeners), len(train.items)), np.nan)
        for row, listener in enumerate(listeners.tolist()):
            found = candidates(model, histories.of(listener))
            result[row, found.items] = found.features[:, column]
        return result

    return score


def two_stage(model: ItemModel, ranker: Ranker, train: Interactions) -> Scores:
    """The scores of all episodes for some listeners, as they are served; NaN for what is not in a
    shortlist."""
    histories = Histories(train)

    def score(listeners: NDArray[np.int64]) -> NDArray[np.float64]:
        result = np.full((len(listeners), len(train.items)), np.nan)
        for row, listener in enumerate(listeners.tolist()):
            one = listed(model, histories.of(listener))
            result[row, one.items] = scores(ranker, one)
        return result

    return score
