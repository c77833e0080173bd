from __future__ import annotations

import numpy as np
import pytest

from streams.recommendation.core.saying import SaidList, hardly_changed, said_list
from streams.recommendation.core.scoring import Ranked, Shares, Signals

NOTHING = Signals(0.0, 0.0, 0.0), Shares(0.0, 0.0, 0.0)


def said(rows: list[int], basis: str = "g1", lift: float = 0.0) -> SaidList:
    ranking = [Ranked(row, 0.9 - n / 100 + lift, *NOTHING) for n, row in enumerate(rows)]
    return said_list(basis, ranking)


CANDIDATES = np.ones(100, dtype=bool)
BEFORE = said(list(range(30)))


@pytest.mark.parametrize(
    "now",
    [
        said(list(range(30))),
        said(list(range(30)), lift=0.01),
        said([*range(10), *reversed(range(10, 30))]),
        said([*range(10), *range(10, 26), 90, 91, 92, 93]),
    ],
)
def test_a_list_that_looks_the_same_need_not_be_said_again(now: SaidList) -> None:
    assert hardly_changed(BEFORE, now, [50], CANDIDATES)


@pytest.mark.parametrize(
    "now",
    [
        said([1, 0, *range(2, 30)]),
        said([*range(9), 90, *range(10, 30)]),
        said([*range(10), *range(10, 25), 90, 91, 92, 93, 94]),
        said(list(range(30)), basis="g2"),
        said(list(range(30)), lift=0.05),
        said(list(range(29))),
        said([]),
    ],
)
def test_a_list_that_looks_different_is_said_again(now: SaidList) -> None:
    assert not hardly_changed(BEFORE, now, [50], CANDIDATES)


def test_what_was_heard_or_withdrawn_leaves_the_list_wherever_it_stands() -> None:
    now = said([*range(29), 90])
    assert hardly_changed(BEFORE, now, [90], CANDIDATES)
    assert not hardly_changed(BEFORE, now, [29], CANDIDATES)
    without = CANDIDATES.copy()
    without[29] = False
    assert not hardly_changed(BEFORE, now, [], without)
