"""Pooling and nearness, against answers known by construction."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.core.neighbours import mean_pool, nearest


def unit(*angles: float) -> np.ndarray:
    return np.array([[np.cos(a), np.sin(a)] for a in angles], dtype=np.float32)


def test_the_mean_of_directions_is_a_direction() -> None:
    pooled = mean_pool(unit(0.2, 0.6))
    assert pooled == pytest.approx(unit(0.4)[0], abs=1e-6)
    assert pooled.dtype == np.float32


def test_opposite_stretches_have_no_direction() -> None:
    assert np.abs(mean_pool(np.array([[1, 0], [-1, 0]], dtype=np.float32))).max() < 1e-6


def test_nearest_first_without_itself_and_ties_by_id() -> None:
    ids = ["d", "c", "b", "a"]
    vectors = unit(0.0, 0.3, 0.3, -0.1)
    ((first, *others), of_c) = nearest(ids, vectors, [0, 1], 3)
    assert first[0] == "a"
    assert first[1] == pytest.approx(np.cos(0.1), abs=1e-6)
    assert [name for name, _ in others] == ["b", "c"]
    assert [name for name, _ in of_c] == ["b", "d", "a"]


def test_fewer_episodes_than_wanted() -> None:
    assert nearest(["only"], unit(1.0), [0], 5) == [[]]
