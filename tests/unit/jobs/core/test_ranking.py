"""The gradient against differences, and a world in which the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.core.evaluation import evaluate, popularity
from jobs.core.interactions import time_split
from jobs.core.item_item import learn_items
from jobs.core.ranking import Examples, Histories, examples, gradient, learn, two_stage
from streams.recommendation.core.item_model import FEATURES
from streams.recommendation.core.ranker import Ranker, Shortlist, scores
from tests.halves import halves

D, UNITS = len(FEATURES), 3


def lists(seed: int) -> Examples:
    random = np.random.default_rng(seed)
    gains = np.where(random.random((5, 7)) < 0.3, random.random((5, 7)), 0.0)
    gains[:, 0] = 1.0
    gains[1, 5:] = np.nan
    return Examples(
        random.normal(size=(5, 7, D)).astype(np.float32),
        random.normal(size=5).astype(np.float32),
        gains.astype(np.float32),
    )


def loss(ranker: Ranker, found: Examples, chosen: np.ndarray) -> float:
    """List by list: the cross-entropy with the shares of the gains, times the root of the hits."""
    total = 0.0
    for features, length, gains in zip(*(part[chosen] for part in found), strict=True):
        there = ~np.isnan(gains)
        listed = Shortlist(np.zeros(0, np.int64), features[there], float(length))
        logits = scores(ranker, listed).astype(np.float64)
        log_share = logits - np.log(np.exp(logits).sum())
        gain = gains[there]
        total -= np.sqrt(np.count_nonzero(gain)) * (gain / gain.sum() * log_share).sum()
    return float(total / len(chosen))


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    random = np.random.default_rng(3)
    shapes = ((D,), (D,), (D + 1, UNITS), (UNITS,), (UNITS,))
    ranker = Ranker(*(random.normal(size=shape).astype(np.float32) for shape in shapes))
    found, chosen, step = lists(1), np.array([0, 1, 3]), 1e-2
    slopes = gradient(ranker, found, chosen)
    for name in Ranker._fields:
        for place in [0, getattr(ranker, name).size // 2]:
            moved = []
            for sign in (1, -1):
                part = getattr(ranker, name).copy()
                part.flat[place] += sign * step
                moved.append(loss(ranker._replace(**{name: part}), found, chosen))
            expected = (moved[0] - moved[1]) / (2 * step)
            assert getattr(slopes, name).flat[place] == pytest.approx(expected, rel=0.05, abs=5e-3)


def test_a_ranker_finds_the_half_of_a_checkerboard() -> None:
    pairs = halves(60, 12)
    train, test = time_split(pairs)
    inner, held = time_split(train)
    ranker = learn([examples(learn_items(inner), inner, held)], seed=1)
    assert ranker is not None
    score = two_stage(learn_items(train), ranker, train)
    listed = score(np.arange(60))
    for user in range(60):
        best = np.argsort(-np.nan_to_num(listed[user], nan=-np.inf))[:8]
        assert (best % 2 == user % 2).all()
    ours, theirs = (evaluate(one, train, test)["ndcg_at_10"] for one in (score, popularity(train)))
    assert ours > 1.3 * theirs


def test_learning_is_a_function_of_the_lists_and_the_seed() -> None:
    a, b = (learn([lists(1), lists(2)], seed=5) for _ in range(2))
    assert a is not None
    assert b is not None
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_nothing_is_learned_from_nothing() -> None:
    train, test = time_split(halves(60, 12))
    nothing = test.where(np.zeros(len(test), dtype=bool))
    assert learn([examples(learn_items(train), train, nothing)], seed=1) is None


def test_a_history_is_the_pairs_of_the_listener_oldest_first() -> None:
    pairs = halves(60, 12, seed=2)
    histories = Histories(pairs)
    for listener in (0, 17, 59):
        mine = pairs.user == listener
        one = histories.of(listener)
        assert sorted(one.items.tolist()) == pairs.item[mine].tolist()
        assert one.at.tolist() == sorted(pairs.at[mine].tolist())
