"""Streaks: the days in a row of each listener, whatever the order of events."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.units import DAY_MS
from streams.engagement.core.streaks import Streaks

HOUR = 3_600_000
TODAY = 20_454
LATENESS = HOUR

steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from((0, 1, HOUR, 11 * HOUR, 23 * HOUR, DAY_MS, 2 * DAY_MS)),
        st.sampled_from((0, 0, 1, LATENESS)),
    ),
    min_size=1,
    max_size=40,
)


def add(state: Streaks, events: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Listener and day -> length, of what has changed."""
    users, times = (np.array(column, np.int64) for column in zip(*events, strict=True))
    columns = state.rows_of(state.add(users, times))
    return {(u, d): n for u, d, n in zip(*(c.tolist() for c in columns), strict=True)}


def lengths(log: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    listened = {(user, at // DAY_MS) for user, at in log}
    found = {}
    for user, day in listened:
        length = 1
        while (user, day - length) in listened:
            length += 1
        found[user, day] = length
    return found


@given(steps, st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_streaks_are_the_same_in_whatever_batches(drawn: list[Any], chance: random.Random) -> None:
    log: list[tuple[int, int]] = []
    newest = TODAY * DAY_MS
    for user, forward, late in drawn:
        newest += forward
        log.append((user, newest - late if log else newest))
    told: dict[tuple[int, int], int] = {}
    state, start = Streaks(LATENESS), 0
    while start < len(log):
        batch = log[start : start + chance.randrange(1, 9)]
        start += len(batch)
        changed = add(state, chance.sample(batch, len(batch)))
        before = lengths(log[: start - len(batch)])
        now = lengths(log[:start])
        assert changed == {place: now[place] for place in now if now[place] != before.get(place)}
        told |= changed
        state.drop_old(max(at for _, at in log[:start]))
    assert told == lengths(log)


def test_yesterday_that_comes_late_lengthens_today() -> None:
    state = Streaks(LATENESS)
    midnight = TODAY * DAY_MS
    assert add(state, [(1, midnight - DAY_MS - 1)]) == {(1, TODAY - 2): 1}
    assert add(state, [(1, midnight + 5)]) == {(1, TODAY): 1}
    assert add(state, [(1, midnight - 5)]) == {(1, TODAY - 1): 2, (1, TODAY): 3}
    assert add(state, [(1, midnight - 9), (1, midnight + 9)]) == {}


def test_old_days_are_forgotten() -> None:
    state = Streaks(LATENESS)
    for day in range(TODAY, TODAY + 100):
        assert add(state, [(1, day * DAY_MS)]) == {(1, day): day - TODAY + 1}
        state.drop_old(day * DAY_MS)
        assert len(state.rows) <= 3
