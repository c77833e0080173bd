"""Cuts of the quality table: nothing is lost, and what is asked was not learned from."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality_table.protocols import PROTOCOLS
from jobs.core.interactions import Interactions

USERS, EACH = 40, 20


def pairs() -> Interactions:
    """Each listener heard twenty items, one a second, every other one to its end."""
    random = np.random.default_rng(4)
    item = np.concatenate([np.sort(random.permutation(60)[:EACH]) for _ in range(USERS)])
    count = USERS * EACH
    return Interactions(
        np.array([f"u{n:02}" for n in range(USERS)]),
        np.array([f"e{n:02}" for n in range(60)]),
        np.repeat(np.arange(USERS), EACH).astype(np.int32),
        item.astype(np.int32),
        np.where(np.arange(count) % 2, 4.5, 0.5).astype(np.float32),
        random.permutation(count) * 1_000,
    )


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_cut_parts_the_pairs(name: str) -> None:
    whole = pairs()
    train, test = PROTOCOLS[name].cut(whole, 1)
    cells = {*zip(train.user, train.item, strict=True), *zip(test.user, test.item, strict=True)}
    if name != "global":  # which asks nothing of people who come later
        assert len(cells) == len(train) + len(test) == len(whole)
    assert len(cells) == len(train) + len(test)
    assert len(test)
    again = PROTOCOLS[name].cut(whole, 1)
    assert again.test.item.tolist() == test.item.tolist()


def test_shares_are_by_listener() -> None:
    for name, asked in {"random": 5, "chronological": 5, "last_fifth": 2}.items():
        _, test = PROTOCOLS[name].cut(pairs(), 2)
        assert np.bincount(test.user, minlength=USERS).tolist() == [asked] * USERS


@pytest.mark.parametrize("name", ["chronological", "last_fifth"])
def test_what_is_asked_comes_last(name: str) -> None:
    whole = pairs()
    train, test = PROTOCOLS[name].cut(whole, 1)
    for user in range(USERS):
        liked = train.strength[train.user == user] > (1.0 if name == "last_fifth" else 0.0)
        known = train.at[train.user == user][liked]
        assert known.max() < test.at[test.user == user].min()


def test_globally_only_known_listeners_are_asked_of_what_came_later() -> None:
    train, test = PROTOCOLS["global"].cut(pairs(), 1)
    assert train.at.max() < test.at.min()
    assert set(test.user.tolist()) <= set(train.user.tolist())


@pytest.mark.parametrize("first", [1, 3, 5])
def test_cold_listeners_keep_their_first_pairs(first: int) -> None:
    train, test = PROTOCOLS[f"cold_{first}"].cut(pairs(), 3)
    cold = np.unique(test.user)
    assert len(cold) == USERS // 5
    counts = np.bincount(train.user, minlength=USERS)
    assert counts[cold].tolist() == [first] * len(cold)
    assert (np.delete(counts, cold) == EACH).all()
