"""Candidates and their features against plain loops, and what they must not depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.units import DAY_MS
from streams.recommendation.core.foldin import fold_in, gram
from streams.recommendation.core.item_model import (
    FEATURES,
    NO_EPISODE,
    RECENT_HALF_LIFE,
    TABLES,
    Candidates,
    Factors,
    History,
    ItemModel,
    candidates,
)

ITEMS, KEPT, RANK = 20, 4, 3


def model(seed: int) -> ItemModel:
    random = np.random.default_rng(seed)
    neighbours = np.array(
        [random.permutation(np.delete(np.arange(ITEMS), n))[:KEPT] for n in range(ITEMS)]
    ).astype(np.int32)
    neighbours[:, -1][random.random(ITEMS) < 0.5] = NO_EPISODE
    weights = random.normal(size=(ITEMS, KEPT, len(TABLES))).astype(np.float32)
    vectors = random.normal(size=(ITEMS, RANK)).astype(np.float32)
    first_at = random.integers(0, 10, ITEMS) * DAY_MS
    return ItemModel(
        neighbours,
        np.where(neighbours[..., None] == NO_EPISODE, 0.0, weights).astype(np.float32),
        random.integers(1, 9, ITEMS).astype(np.float32),
        random.random(ITEMS).astype(np.float32),
        first_at,
        first_at + DAY_MS,
        np.array([0, 1]),
        Factors(vectors, gram(vectors), 0.5, 0.1),
    )


def history(rows: list[int], strengths: list[float]) -> History:
    at = np.arange(len(rows)) * DAY_MS // 2
    return History(np.array(rows, dtype=np.int64), np.array(strengths, dtype=np.float32), at)


HISTORIES = st.lists(
    st.tuples(st.integers(0, ITEMS - 1), st.sampled_from([-1.0, 0.5, 1.0, 3.0])),
    max_size=12,
    unique_by=lambda pair: pair[0],
).map(lambda found: history([row for row, _ in found], [strength for _, strength in found]))


def column(found: Candidates, name: str) -> Any:
    return found.features[:, FEATURES.index(name)]


@given(st.integers(0, 9), HISTORIES)
def test_tables_are_summed_over_the_neighbours_of_what_was_heard(seed: int, one: History) -> None:
    learned = model(seed)
    found = candidates(learned, one)
    place = {item: n for n, item in enumerate(found.items.tolist())}
    heard = [row for row, s in zip(one.items, one.strengths, strict=True) if s > 0]
    expected = {row for row in learned.neighbours[heard].ravel().tolist() if row != NO_EPISODE}
    assert set(place) == expected | set(learned.popular.tolist())
    for number, name in enumerate(TABLES):
        plain, recent = np.zeros(len(place)), np.zeros(len(place))
        for back, row in enumerate(reversed(heard)):
            for near, weight in zip(
                learned.neighbours[row], learned.weights[row, :, number], strict=True
            ):
                if near != NO_EPISODE:
                    plain[place[int(near)]] += weight
                    recent[place[int(near)]] += weight * 2.0 ** (-back / RECENT_HALF_LIFE)
        assert column(found, name) == pytest.approx(plain, abs=1e-4)
        assert column(found, f"{name}_recent") == pytest.approx(recent, abs=1e-4)


@given(st.integers(0, 9), HISTORIES)
def test_als_is_the_fold_in_of_the_listener(seed: int, one: History) -> None:
    learned = model(seed)
    factors = learned.factors
    assert factors
    found = candidates(learned, one)
    vectors = fold_in(
        factors.gram,
        [(factors.vectors[one.items], one.strengths)],
        alpha=factors.alpha,
        regularization=factors.regularization,
    )
    assert column(found, "als") == pytest.approx(
        (vectors @ factors.vectors.T)[0, found.items], abs=1e-4
    )


@given(st.integers(0, 9), HISTORIES, st.integers(1, 50))
def test_a_larger_catalogue_changes_nothing(seed: int, one: History, more: int) -> None:
    small = model(seed)

    def longer(part: Any) -> Any:
        return np.concatenate([part, np.ones((more, *part.shape[1:]), dtype=part.dtype)])

    names = ("neighbours", "weights", "listeners", "liking", "first_at", "last_at")
    assert small.factors
    large = replace(
        small,
        factors=replace(small.factors, vectors=longer(small.factors.vectors)),
        **{name: longer(getattr(small, name)) for name in names},
    )
    a, b = candidates(small, one), candidates(large, one)
    assert a.items.tolist() == b.items.tolist()
    assert np.array_equal(a.features, b.features)


@given(st.integers(0, 9), HISTORIES, st.sets(st.integers(0, ITEMS - 1)))
def test_what_is_excluded_is_no_candidate(seed: int, one: History, gone: set[int]) -> None:
    learned = model(seed)
    found = candidates(learned, one, np.array(sorted(gone), dtype=np.int64))
    everything = candidates(learned, one)
    kept = ~np.isin(everything.items, sorted(gone))
    assert np.array_equal(found.items, everything.items[kept])
    assert np.array_equal(found.features, everything.features[kept])


def test_age_is_told_from_the_time_of_the_listener() -> None:
    learned = replace(model(1), first_at=np.array([0, 5 * DAY_MS] + [0] * (ITEMS - 2)))
    one = History(np.array([3]), np.ones(1, np.float32), np.array([2 * DAY_MS]))
    found = candidates(learned, one)
    first, second = (found.items.tolist().index(item) for item in (0, 1))
    assert column(found, "age")[first] == pytest.approx(np.log1p(2.0))
    assert column(found, "unheard_yet")[[first, second]].tolist() == [0.0, 1.0]
    assert column(found, "age")[second] == 0.0
