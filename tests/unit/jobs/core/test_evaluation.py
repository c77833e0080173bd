"""Figures against cases worked by hand, and the properties of a ranking."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.evaluation import evaluate, factors, judge, popularity
from jobs.core.interactions import Interactions

ITEMS = 30


def pairs(*cells: tuple[int, int], users: int = 3, strength: float = 1.0) -> Interactions:
    user, item = (np.array([cell[side] for cell in cells], dtype=np.int32) for side in (0, 1))
    return Interactions(
        np.array([f"u{n}" for n in range(users)]),
        np.array([f"e{n:02}" for n in range(ITEMS)]),
        user,
        item,
        np.full(len(cells), strength, dtype=np.float32),
        np.zeros(len(cells), dtype=np.int64),
    )


def by_number(listeners: np.ndarray) -> np.ndarray:
    """Item 0 first, then 1, and so on."""
    return np.tile(-np.arange(ITEMS, dtype=float), (len(listeners), 1))


def test_figures_worked_by_hand() -> None:
    train = pairs((0, 0), (0, 1))  # removed: the list is 2, 3, …, 11
    test = pairs((0, 3), (0, 6), (0, 25))  # hits at the places 2 and 5, and a miss
    got = evaluate(by_number, train, test)
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert got["recall_at_10"] == pytest.approx(2 / 3)
    assert got["ndcg_at_10"] == pytest.approx((1 / np.log2(3) + 1 / np.log2(6)) / ideal)
    assert got["map_at_10"] == pytest.approx((1 / 2 + 2 / 5) / 3)
    assert got["coverage_at_10"] == pytest.approx(10 / ITEMS)


def test_how_sure_a_figure_is_follows_from_how_much_listeners_differ() -> None:
    one_hit = pairs((0, 0), (1, 25))
    got = evaluate(by_number, pairs(), one_hit)
    assert (got["ndcg_at_10"], got["listeners"]) == (0.5, 2)
    assert got["ndcg_at_10_error"] == pytest.approx(0.5 / np.sqrt(2))
    assert evaluate(by_number, pairs(), pairs((0, 0), (1, 0)))["ndcg_at_10_error"] == 0


def test_listeners_without_held_out_pairs_do_not_count() -> None:
    test = pairs((1, 0))
    assert evaluate(by_number, pairs((0, 5)), test)["recall_at_10"] == 1.0
    assert evaluate(by_number, pairs((0, 5)), pairs()) == {}


def test_what_cannot_be_scored_is_not_recommended() -> None:
    users, items = np.ones((3, 1), np.float32), np.ones((ITEMS, 1), np.float32)
    items[4] = np.nan
    users[1] = np.nan
    learned = factors(users, items)
    assert evaluate(learned, pairs((2, 9)), pairs((0, 4)))["recall_at_10"] == 0.0
    got = evaluate(learned, pairs((2, 9)), pairs((1, 0)))
    assert got["recall_at_10"] == got["coverage_at_10"] == 0.0


def test_popularity_counts_listeners_who_liked_it() -> None:
    train = pairs((0, 7), (1, 7), (0, 8))
    disliked = pairs((2, 9), (1, 9), (0, 9), strength=-1.0)
    assert popularity(train)(np.array([0]))[0, 7] == 2
    assert popularity(disliked)(np.array([0])).sum() == 0


@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, ITEMS - 1)), min_size=1, max_size=40))
def test_an_oracle_is_perfect_and_figures_stay_within_bounds(cells: Any) -> None:
    test = pairs(*cells)
    truth = np.zeros((3, ITEMS))
    truth[test.user, test.item] = 1
    train = pairs()
    perfect = evaluate(lambda listeners: truth[listeners], train, test)
    assert perfect["ndcg_at_10"] == pytest.approx(1.0)
    assert perfect["map_at_10"] == pytest.approx(1.0)
    other = evaluate(by_number, train, test)
    assert other.pop("listeners") == len({user for user, _ in cells})
    assert all(0 <= value <= 1 for value in other.values())
    better = [name for name in other if name.startswith(("recall", "ndcg_at_10", "map"))]
    better.remove("ndcg_at_10_error")
    assert all(other[name] <= perfect[name] + 1e-9 for name in better)


def test_novelty_coverage_and_gini_worked_by_hand() -> None:
    train = pairs((0, 0), (1, 0), (2, 0), (0, 1))  # item 0 is known to all, item 1 to one of three
    test = pairs((2, 5))
    judged = judge(by_number, train, test)  # listener 2 is shown 1, 2, …, 10
    expected = (-np.log2(2 / 4) + 9 * -np.log2(1 / 4)) / 10
    assert judged.by_listener["novelty_at_10"].tolist() == [pytest.approx(expected)]
    assert judged.by_listener["recall_at_20"].tolist() == [1.0]
    assert judged.coverage == pytest.approx(10 / ITEMS)
    assert judged.gini == pytest.approx(20 / ITEMS)  # ten of thirty items share everything
    even = judge(by_number, pairs(), pairs(*((0, n) for n in range(ITEMS))))
    assert even.gini == pytest.approx(20 / ITEMS)
    assert judge(by_number, train, pairs()).gini == 0.0
