"""Training and fold-in weigh by one formula; these are the properties both rely on."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.recommendation.core.confidence import strength

amounts = st.integers(0, 10**9)
counts = st.integers(0, 10_000)


@given(amounts, counts, counts, counts)
def test_more_of_anything_good_never_weighs_less(
    heard_ms: Any, plays: Any, completes: Any, likes: Any
) -> None:
    base = strength(heard_ms, plays, completes, likes)
    assert base >= 0
    assert strength(heard_ms + 60_000, plays, completes, likes) >= base
    assert strength(heard_ms, plays + 1, completes, likes) >= base
    assert strength(heard_ms, plays, completes + 1, likes) >= base
    assert strength(heard_ms, plays, completes, likes + 1) >= base


@given(amounts, counts, counts, counts, counts)
def test_only_the_net_number_of_likes_counts(
    heard_ms: Any, plays: Any, completes: Any, likes: Any, dislikes: Any
) -> None:
    apart = strength(heard_ms, plays, completes, likes, dislikes)
    net = strength(heard_ms, plays, completes, likes - dislikes)
    assert apart == net
    assert (apart < 0) == (dislikes > likes)


def test_nothing_heard_says_nothing() -> None:
    assert strength(0, 0, 0, 0) == 0.0


def test_ten_minutes_are_one_unit_and_the_shape_is_kept() -> None:
    result = strength(np.array([[600_000, 0]]), 0, 0, np.array([[0, 2]]))
    assert result.dtype == np.float32
    assert result.tolist() == [[1.0, 2.0]]


def test_a_finished_play_outweighs_an_abandoned_one() -> None:
    finished, abandoned = strength([1_800_000, 120_000], [1, 1], [1, 0], [0, 0])
    assert finished > 2 * abandoned
