"""What a generation makes lists with, on a checkerboard and on next to nothing."""

from __future__ import annotations

import numpy as np

from jobs.core import list_training
from jobs.core.interactions import Interactions, time_split
from jobs.core.list_training import CUTS, ITEM_ITEM, TWO_STAGE, ListTraining, train_lists
from jobs.core.ranking import lessons
from streams.recommendation.core.foldin import gram
from streams.recommendation.core.item_model import Factors
from tests.halves import halves


def factors(pairs: Interactions) -> Factors:
    """Of no use, so that the neighbours have to do it."""
    vectors = np.ones((len(pairs.items), 1), dtype=np.float32)
    return Factors(vectors, gram(vectors), 1.0, 0.1)


def trained(pairs: Interactions, worth_of_als: float = 0.0) -> ListTraining:
    cuts = lessons(pairs, time_split, factors, CUTS)
    return train_lists(pairs, factors(pairs), cuts, worth_of_als, seed=3)


def test_cuts_lie_in_one_another() -> None:
    pairs = halves(20, 12)
    found = lessons(pairs, time_split, factors, CUTS)
    assert len(found) == CUTS
    left = pairs
    for lesson in found:
        assert len(lesson.train) + len(lesson.held) == len(left)
        assert (lesson.model.listeners == np.bincount(lesson.train.item, minlength=40)).all()
        left = lesson.train


def test_enough_listening_gives_a_ranker_and_figures_beside_the_simpler_models() -> None:
    made = trained(halves(60, 12))
    assert made.ranker is not None
    assert made.model is not None
    assert made.unranked_because == ""
    assert made.model.listeners.sum() == 60 * 12
    assert set(made.metrics) == {ITEM_ITEM, TWO_STAGE}
    assert made.metrics[TWO_STAGE]["ndcg_at_10"] > 0.2


def test_the_same_pairs_give_the_same_ranker() -> None:
    a, b = (trained(halves(60, 12)).ranker for _ in range(2))
    assert a is not None
    assert b is not None
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_too_little_to_learn_from_is_said() -> None:
    assert "held out twice" in trained(halves(2, 2)).unranked_because
    few = trained(halves(list_training.FEWEST_LISTS // 4, 12))
    assert (few.model, few.ranker) == (None, None)
    assert f"of {list_training.FEWEST_LISTS} needed" in few.unranked_because


def test_a_ranker_that_is_worth_less_than_als_is_not_taken() -> None:
    made = trained(halves(60, 12), worth_of_als=2.0)
    assert (made.model, made.ranker) == (None, None)
    assert "ALS alone of 2.0000" in made.unranked_because
    assert TWO_STAGE in made.metrics
