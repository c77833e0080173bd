"""The ranker's arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from streams.recommendation.core.item_model import FEATURES, Candidates
from streams.recommendation.core.ranker import Ranker, average, scores, shortlist

D, UNITS = len(FEATURES), 4


def ranker(seed: int) -> Ranker:
    random = np.random.default_rng(seed)
    shapes = ((D,), (D,), (D + 1, UNITS), (UNITS,), (UNITS,))
    return Ranker(*(random.normal(size=shape).astype(np.float32) for shape in shapes))


def found(count: int, seed: int = 0) -> Candidates:
    random = np.random.default_rng(seed)
    return Candidates(np.arange(count) * 3, random.normal(size=(count, D)).astype(np.float32))


def test_the_score_is_linear_with_a_rectified_layer() -> None:
    one = ranker(1)
    listed = shortlist(found(6), heard=5)
    for features, score in zip(listed.features, scores(one, listed), strict=True):
        units = np.append(features, listed.length) @ one.hidden + one.bias
        expected = features @ one.linear + listed.length * (features @ one.by_length)
        expected += np.maximum(units, 0) @ one.output
        assert score == pytest.approx(expected, abs=1e-4)


def test_an_average_scores_as_its_members_do_on_average() -> None:
    members = [ranker(seed) for seed in range(3)]
    listed = shortlist(found(9), heard=40)
    expected = np.mean([scores(one, listed) for one in members], axis=0)
    assert scores(average(members), listed) == pytest.approx(expected, abs=1e-4)


def test_features_count_as_they_compare_within_the_list() -> None:
    plain = found(8)
    scaled = Candidates(plain.items, plain.features * np.float32(10.0) + np.float32(7.0))
    a, b = shortlist(plain, heard=3), shortlist(scaled, heard=3)
    assert a.features == pytest.approx(b.features, abs=1e-4)
    assert a.features.mean(axis=0) == pytest.approx(np.zeros(D), abs=1e-5)


def test_the_shortlist_keeps_the_best_by_the_main_features() -> None:
    candidates = found(30)
    candidates.features[:] = 0.0
    candidates.features[:, FEATURES.index("ease")] = np.arange(30)
    assert shortlist(candidates, heard=1, count=4).items.tolist() == [78, 81, 84, 87]
    assert shortlist(found(0), heard=0).items.tolist() == []
