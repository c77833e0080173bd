"""Fold-in against a reference ALS that trains the listeners' vectors itself."""

import numpy as np
import pytest

from streams.recommendation.core.foldin import Doubles, Floats, fold_in, gram

Trained = tuple[Doubles, Doubles, Floats]
"""Strengths, and the factors of listeners and of items that training gave."""

ALPHA, REGULARIZATION, RANK = 20.0, 0.05, 6


def half_step(fixed: Doubles, strengths: Doubles) -> Doubles:
    """One half-step of implicit ALS as in the papers, with Spark's scaled regularisation.

    Written with full confidence matrices, so that it shares nothing with the code under test.
    """
    solved = np.zeros((len(strengths), fixed.shape[1]))
    for i, row in enumerate(strengths):
        preference = (row > 0).astype(float)
        confidence = np.diag(1.0 + ALPHA * np.abs(row))
        n = max(1.0, preference.sum())
        left = fixed.T @ confidence @ fixed + REGULARIZATION * n * np.eye(fixed.shape[1])
        solved[i] = np.linalg.solve(left, fixed.T @ confidence @ preference)
    return solved


def train(strengths: Doubles, iterations: int = 8, seed: int = 0) -> tuple[Doubles, Doubles]:
    users = np.random.default_rng(seed).normal(size=(len(strengths), RANK)) / RANK
    for _ in range(iterations):
        items = half_step(users, strengths.T)
        users = half_step(items, strengths)
    return users, items


@pytest.fixture(scope="module")
def trained() -> Trained:
    random = np.random.default_rng(7)
    strengths = np.where(random.random((40, 25)) < 0.3, random.exponential(1.0, (40, 25)), 0.0)
    strengths[random.random(strengths.shape) < 0.05] = -1.0
    users, items = train(strengths)
    return strengths, users, items.astype(np.float32)


def history(items: Floats, row: Doubles) -> tuple[Floats, Floats]:
    known = np.flatnonzero(row)
    return items[known], row[known].astype(np.float32)


def test_folding_in_gives_the_vector_that_training_gave(trained: Trained) -> None:
    strengths, users, items = trained
    folded = fold_in(
        gram(items),
        [history(items, row) for row in strengths],
        alpha=ALPHA,
        regularization=REGULARIZATION,
    )
    np.testing.assert_allclose(folded, users, atol=1e-3)


def test_listeners_folded_in_together_do_not_change_each_other(trained: Trained) -> None:
    strengths, _, items = trained
    histories = [history(items, row) for row in strengths]
    parameters = {"alpha": ALPHA, "regularization": REGULARIZATION}
    together = fold_in(gram(items), histories, **parameters)
    alone = [fold_in(gram(items), [one], **parameters)[0] for one in histories]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_dislike_lowers_the_prediction_of_what_was_disliked(trained: Trained) -> None:
    strengths, _, items = trained
    row = strengths[0].copy()
    episode = int(np.flatnonzero(row == 0)[np.argmax(items[row == 0] @ trained[1][0])])
    parameters = {"alpha": ALPHA, "regularization": REGULARIZATION}
    before = fold_in(gram(items), [history(items, row)], **parameters)[0] @ items[episode]
    row[episode] = -1.0
    after = fold_in(gram(items), [history(items, row)], **parameters)[0] @ items[episode]
    assert before > 0.05
    assert after < before - 0.2


def test_without_anything_positive_the_vector_is_zero(trained: Trained) -> None:
    _, _, items = trained
    nothing = (items[:0], np.zeros(0, dtype=np.float32))
    disliked = (items[:1], np.array([-1.0], dtype=np.float32))
    folded = fold_in(gram(items), [nothing, disliked], alpha=ALPHA, regularization=0.1)
    assert not folded.any()
