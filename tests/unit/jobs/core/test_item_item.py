"""Neighbours against dense arithmetic that shares no code with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.interactions import Interactions
from jobs.core.item_item import (
    MOST_STEPS,
    NEAR_HALF_LIFE,
    POPULARITY_EXPONENT,
    ease_weights,
    learn_items,
)
from streams.recommendation.core.item_model import NO_EPISODE, TABLES

USERS, ITEMS = 8, 12
CELLS = st.dictionaries(
    st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)),
    st.tuples(st.floats(0.1, 4.0), st.integers(0, 9)),
    min_size=1,
    max_size=60,
)


def pairs(cells: Any) -> Interactions:
    order = sorted(cells)
    return Interactions(
        np.array([f"u{n}" for n in range(USERS)]),
        np.array([f"e{n:02}" for n in range(ITEMS)]),
        np.array([user for user, _ in order], dtype=np.int32),
        np.array([item for _, item in order], dtype=np.int32),
        np.array([cells[cell][0] for cell in order], dtype=np.float32),
        np.array([cells[cell][1] for cell in order], dtype=np.int64),
    )


def dense(found: Interactions) -> np.ndarray:
    heard = np.zeros((USERS, ITEMS))
    heard[found.user, found.item] = found.strength > 0
    return heard


def table(found: Interactions, name: str, **options: Any) -> np.ndarray:
    """The weights of one table, as a full matrix."""
    model = learn_items(found, kept=ITEMS - 1, **options)
    full = np.zeros((ITEMS, ITEMS))
    for row, near in enumerate(model.neighbours):
        known = near != NO_EPISODE
        full[row, near[known]] = model.weights[row, known, TABLES.index(name)]
    return full


@given(CELLS, st.floats(0.5, 50.0))
def test_ease_is_the_ridge_regression_of_each_episode_on_all_others(
    cells: Any, regularization: float
) -> None:
    heard = dense(pairs(cells))
    weights = ease_weights(heard.T @ heard, regularization)
    assert not np.diag(weights).any()
    for item in range(ITEMS):
        others = np.delete(np.arange(ITEMS), item)
        left = heard[:, others]
        solved = np.linalg.solve(
            left.T @ left + regularization * np.eye(ITEMS - 1), left.T @ heard[:, item]
        )
        assert weights[others, item] == pytest.approx(solved, abs=1e-5)


@given(CELLS)
def test_together_is_the_dense_walk_over_listeners(cells: Any) -> None:
    found = pairs(cells)
    heard = dense(found)
    listeners, lengths = heard.sum(axis=0), heard.sum(axis=1)
    walk = heard.T @ (heard / np.maximum(lengths, 1)[:, None])
    scaled = walk / np.maximum(listeners, 1)[:, None]
    scaled /= np.maximum(listeners, 1) ** POPULARITY_EXPONENT
    np.fill_diagonal(scaled, 0.0)
    assert table(found, "together") == pytest.approx(scaled, abs=1e-5)


@given(CELLS)
def test_near_counts_steps_between_what_a_listener_heard(cells: Any) -> None:
    found = pairs(cells)
    listeners = dense(found).sum(axis=0)
    expected = np.zeros((ITEMS, ITEMS))
    for user in range(USERS):
        mine = sorted((cells[cell][1], cell[1]) for cell in cells if cell[0] == user)
        for place, (_, item) in enumerate(mine):
            for step, (_, after) in enumerate(mine[place + 1 : place + 1 + MOST_STEPS]):
                weight = 2.0 ** (-step / NEAR_HALF_LIFE)
                weight /= np.sqrt(listeners[item] * listeners[after])
                expected[[item, after], [after, item]] += weight
    assert table(found, "near") == pytest.approx(expected, abs=1e-5)


@given(CELLS)
@settings(max_examples=30)
def test_the_head_alone_has_ease(cells: Any) -> None:
    found = pairs(cells)
    listeners = dense(found).sum(axis=0)
    head = np.argsort(-listeners, kind="stable")[:3]
    outside = np.setdiff1d(np.arange(ITEMS), head)
    weights = table(found, "ease", head=3, regularization=1.0)
    assert not weights[outside].any()
    assert not weights[:, outside].any()


@given(CELLS, st.integers(1, ITEMS - 1))
def test_neighbours_are_few_distinct_heard_and_never_oneself(cells: Any, kept: int) -> None:
    found = pairs(cells)
    heard = dense(found).sum(axis=0) > 0
    model = learn_items(found, kept=kept)
    assert model.neighbours.shape == (ITEMS, kept)
    for row, near in enumerate(model.neighbours):
        known = near[near != NO_EPISODE]
        assert len(set(known.tolist())) == len(known)
        assert row not in known
        assert heard[known].all()
        assert heard[row] or not len(known)
        assert not model.weights[row, near == NO_EPISODE].any()
    assert heard[model.popular].all()


def test_a_dislike_makes_no_neighbours() -> None:
    cells = {(0, 0): (1.0, 1), (0, 1): (-1.0, 2), (1, 0): (1.0, 1), (1, 2): (1.0, 2)}
    model = learn_items(pairs(cells), kept=3)
    assert model.listeners[:4].tolist() == [2.0, 0.0, 1.0, 0.0]
    assert model.neighbours[0].tolist() == [2, NO_EPISODE, NO_EPISODE]
    assert model.neighbours[1].tolist() == [NO_EPISODE] * 3
