"""Models of the table: each learns from a cut's training data and gives scores of all items.

A setting is chosen on one cut of the training data, by the mean nDCG@10. Ours learns its ranker
from `CUTS` of them, which are made one in the other where the cut is the same every time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_table.protocols import Cut, CutAgain
from scipy import sparse

from jobs.core import evaluation
from jobs.core.evaluation import Scores, evaluate
from jobs.core.interactions import Interactions
from jobs.core.item_item import ease_weights, learn_items
from jobs.core.ranking import Histories, examples, learn, two_stage
from streams.recommendation.core.foldin import Floats, fold_in, gram
from streams.recommendation.core.item_model import Factors
from topology.settings import Settings

CUTS = 3
NEIGHBOURS = 100

Model = Callable[[Cut, CutAgain, int], Scores]
"""Learns from the train of a cut; may cut it again, and draws by the seed."""


def heard_of(pairs: Interactions) -> sparse.csr_matrix:
    """(listeners, items): 1 where there is a positive pair."""
    positive = pairs.strength > 0
    cells = (pairs.user[positive], pairs.item[positive])
    shape = (len(pairs.users), len(pairs.items))
    return sparse.csr_matrix((np.ones(np.count_nonzero(positive)), cells), shape=shape)


def _linear(pairs: Interactions, weights: NDArray[Any]) -> Scores:
    heard = heard_of(pairs)
    return lambda listeners: heard[listeners] @ weights


def tuned(
    cut: Cut,
    again: CutAgain,
    seed: int,
    settings: list[Any],
    fit: Callable[[Interactions, Any], Scores],
) -> Scores:
    """What `fit` gives with the setting that is best on a cut of the training data."""
    inner = again(cut.train, seed + 1_000)

    def worth(setting: Any) -> float:
        return evaluate(fit(inner.train, setting), inner.train, inner.test).get("ndcg_at_10", 0.0)

    return fit(cut.train, max(settings, key=worth))


def popularity(cut: Cut, again: CutAgain, seed: int) -> Scores:
    """The same list for everybody."""
    return evaluation.popularity(cut.train)


def item_knn(cut: Cut, again: CutAgain, seed: int) -> Scores:
    """Sums of the shrunk cosines of the nearest items."""

    def fit(pairs: Interactions, shrink: float) -> Scores:
        heard = heard_of(pairs)
        common = np.asarray((heard.T @ heard).todense())
        norms = np.sqrt(np.diag(common))
        cosine = common / np.maximum(norms[:, None] * norms + shrink, 1.0)
        np.fill_diagonal(cosine, 0.0)
        bar = -np.sort(-cosine, axis=0)[min(NEIGHBOURS, len(cosine)) - 1]
        return _linear(pairs, np.where(cosine >= bar, cosine, 0.0))

    return tuned(cut, again, seed, [0.0, 10.0, 50.0, 200.0], fit)


def ease(cut: Cut, again: CutAgain, seed: int) -> Scores:
    """EASE over all items."""

    def fit(pairs: Interactions, regularization: float) -> Scores:
        heard = heard_of(pairs)
        counts = np.asarray((heard.T @ heard).todense())
        return _linear(pairs, ease_weights(counts, regularization))

    return tuned(cut, again, seed, [50.0, 100.0, 200.0, 300.0, 500.0, 1000.0], fit)


def spark_als(cut: Cut, again: CutAgain, seed: int) -> Scores:
    """ALS by the equations and settings of `train_als`, listeners folded in."""
    factors = _factors(cut.train, seed)
    histories = Histories(cut.train)

    def score(listeners: NDArray[np.int64]) -> Floats:
        own = [histories.of(listener) for listener in listeners.tolist()]
        users = fold_in(
            factors.gram,
            [(factors.vectors[one.items], one.strengths) for one in own],
            alpha=factors.alpha,
            regularization=factors.regularization,
        )
        return users @ factors.vectors.T

    return score


def implicit_als(cut: Cut, again: CutAgain, seed: int) -> Scores:
    """ALS by `implicit`."""
    from implicit.als import AlternatingLeastSquares

    def fit(pairs: Interactions, setting: tuple[int, float, float]) -> Scores:
        factors, regularization, alpha = setting
        return _library(
            pairs,
            AlternatingLeastSquares(
                factors=factors,
                regularization=regularization,
                alpha=alpha,
                random_state=seed,
                num_threads=1,
            ),
        )

    settings = [(16, 20.0, 4.0), (32, 20.0, 4.0), (64, 20.0, 4.0), (16, 5.0, 1.0), (64, 5.0, 1.0)]
    return tuned(cut, again, seed, settings, fit)


def implicit_bpr(cut: Cut, again: CutAgain, seed: int) -> Scores:
    """BPR by `implicit`."""
    from implicit.bpr import BayesianPersonalizedRanking

    def fit(pairs: Interactions, setting: tuple[int, float]) -> Scores:
        factors, rate = setting
        return _library(
            pairs,
            BayesianPersonalizedRanking(
                factors=factors,
                learning_rate=rate,
                regularization=0.01,
                iterations=100,
                random_state=seed,
                num_threads=1,
            ),
        )

    return tuned(cut, again, seed, [(32, 0.01), (32, 0.05), (64, 0.05)], fit)


def _library(pairs: Interactions, model: Any) -> Scores:
    model.fit(heard_of(pairs).astype(np.float32), show_progress=False)
    users, items = np.asarray(model.user_factors), np.asarray(model.item_factors)
    return lambda listeners: users[listeners] @ items.T


def _factors(pairs: Interactions, seed: int) -> Factors:
    """Item factors by alternating `fold_in`, which is the half-step of Spark's ALS."""
    settings = Settings()
    rank = settings.als_rank
    items = np.random.default_rng(seed).normal(0.0, 0.1, (len(pairs.items), rank))
    items = items.astype(np.float32)
    by_user, by_item = (
        np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of, minlength=count))[:-1])
        for of, count in ((pairs.user, len(pairs.users)), (pairs.item, len(pairs.items)))
    )
    how = {"alpha": settings.als_alpha, "regularization": settings.als_regularization}
    for _ in range(settings.als_iterations):
        own = [(items[pairs.item[at]], pairs.strength[at]) for at in by_user]
        users = fold_in(gram(items), own, **how)
        own = [(users[pairs.user[at]], pairs.strength[at]) for at in by_item]
        items = fold_in(gram(users), own, **how)
    return Factors(items, gram(items), **how)


def two_stages(cut: Cut, again: CutAgain, seed: int) -> Scores:
    """Ours: neighbours and ALS, ranked by what was learned from cuts of the training data."""
    lists, left = [], cut.train
    for number in range(CUTS):
        inner = again(left, seed + 1_000 + number)
        if not len(inner.test):
            break
        model = learn_items(inner.train, _factors(inner.train, seed))
        lists.append(examples(model, inner.train, inner.test))
        same = np.array_equal(again(left, seed).test.item, inner.test.item)
        left = inner.train if same else cut.train
    ranker = learn(lists, seed)
    if ranker is None:
        raise ValueError("no list holds anything that was held out")
    return two_stage(learn_items(cut.train, _factors(cut.train, seed)), ranker, cut.train)


MODELS: dict[str, Model] = {
    "popularity": popularity,
    "item_knn": item_knn,
    "ease": ease,
    "als": spark_als,
    "ours": two_stages,
}
if importlib.util.find_spec("implicit"):
    MODELS |= {"implicit_als": implicit_als, "implicit_bpr": implicit_bpr}
