"""Sizes and settings of a generation that no list may be made with."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from streams.recommendation.core.item_model import TABLES, ItemModel
from streams.recommendation.core.soundness import (
    UnsoundError,
    check_equations,
    check_factors,
    check_model,
)

COUNT = 3


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0])
def test_settings_that_no_listener_can_be_folded_in_with_are_found(number: float) -> None:
    check_equations(0.5, 0.1)
    with pytest.raises(UnsoundError, match="alpha"):
        check_equations(number, 0.1)
    with pytest.raises(UnsoundError, match="regularisation"):
        check_equations(0.5, number)


def test_factors_of_nothing_and_of_another_rank_are_found() -> None:
    with pytest.raises(UnsoundError, match="no item"):
        check_factors(np.zeros((0, 2), np.float32), 2)
    with pytest.raises(UnsoundError, match="where 3 are declared"):
        check_factors(np.ones((COUNT, 2), np.float32), 3)


def test_parts_of_neighbours_that_are_not_of_one_size_are_found() -> None:
    ones, at_ms = np.ones(COUNT, np.float32), np.ones(COUNT, np.int64)
    near = np.zeros((COUNT, 1), np.int32), np.zeros((COUNT, 1, len(TABLES)), np.float32)
    model = ItemModel(*near, ones, ones, at_ms, at_ms, np.zeros(1, np.int64))
    check_model(model)
    with pytest.raises(UnsoundError, match="weights"):
        check_model(replace(model, weights=near[1][:, :, 1:]))
    with pytest.raises(UnsoundError, match="liking of 2 episodes, not of 3"):
        check_model(replace(model, liking=ones[1:]))
    with pytest.raises(UnsoundError, match="beyond the 3 episodes"):
        check_model(replace(model, neighbours=near[0] + COUNT))
