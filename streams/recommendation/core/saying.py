"""Whether a list has to be said again: most of what a listener does moves it hardly at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.recommendation.core.scoring import Ranked

HEAD = 10
"""Places that people see at once: a list is said again whenever these differ."""

MOST_OTHERS = 0.2
"""Share of the places behind them that may hold other episodes."""

MOST_MOVED = 0.02
"""How far a score at the head may move."""


class SaidList(NamedTuple):
    """What was said: the basis, the rows of the episodes, and the scores of the first ones."""

    basis: str
    rows: tuple[int, ...]
    scores: tuple[float, ...]


def said_list(basis: str, ranking: Sequence[Ranked]) -> SaidList:
    """What is to be remembered of a list; ``basis`` is what all lists are made with now."""
    rows = tuple(place.row for place in ranking)
    return SaidList(basis, rows, tuple(place.score for place in ranking[:HEAD]))


def hardly_changed(
    before: SaidList, now: SaidList, settled: Iterable[int], candidates: NDArray[np.bool_]
) -> bool:
    """Whether whoever has the list of ``before`` has what ``now`` says, to all intents.

    ``settled`` are rows that the listener is not to be shown again, and ``candidates`` says of
    every row whether its episode may be recommended at all: neither may stay in a list.
    """
    if not set(before.rows).isdisjoint(settled) or not candidates[list(before.rows)].all():
        return False
    if before.basis != now.basis or before.rows[:HEAD] != now.rows[:HEAD]:
        return False
    if len(before.rows) != len(now.rows):
        return False
    if any(abs(a - b) > MOST_MOVED for a, b in zip(before.scores, now.scores, strict=True)):
        return False
    others = set(now.rows[HEAD:])
    return len(others - set(before.rows)) <= MOST_OTHERS * len(others)
