"""Sessions: the same however events are cut, ordered and looked at."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engagement.core.sessions import SESSION_GAP_MS, SUMS, ClosedSessions, Sessions

MINUTE = 60_000
NOON = 1_767_268_800_000
LATENESS = 15 * MINUTE

Event = tuple[int, int, bool, bool, int]
"""Listener, time in ms, play, complete, milliseconds heard."""

steps = st.tuples(
    st.integers(0, 2),
    st.sampled_from(
        (0, 1, MINUTE, 29 * MINUTE, SESSION_GAP_MS, SESSION_GAP_MS + 1, 100 * MINUTE, 10**9)
    ),
    st.sampled_from((0, 0, 1, MINUTE, LATENESS - 1, LATENESS)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 5),
)


def log_of(drawn: list[tuple[int, int, int, bool, bool, int]]) -> list[Event]:
    """Time goes on by the second part of each step; the event is as late as the third says."""
    log: list[Event] = []
    newest = NOON
    for user, forward, late, play, complete, heard_ms in drawn:
        newest += forward
        log.append((user, newest - late if log else newest, play, complete, heard_ms))
    return log


def add(state: Sessions, events: list[Event]) -> None:
    users, times, plays, completes, heard_ms = (
        np.array(column) for column in zip(*events, strict=True)
    )
    state.add(users, times, plays, completes, heard_ms)


def rows(closed: ClosedSessions) -> list[tuple[Any, ...]]:
    columns = (closed.users, closed.started_at, closed.ended_at, *closed.sums.values())
    return list(zip(*(column.tolist() for column in columns), strict=True))


def oracle(log: list[Event], watermark: int) -> set[tuple[Any, ...]]:
    """User, start, end, sums of every session that is over."""
    by_user: dict[int, list[Event]] = defaultdict(list)
    for event in log:
        by_user[event[0]].append(event)
    found = set()
    for user, events in by_user.items():
        events.sort(key=lambda event: event[1])
        cuts = [n for n in range(1, len(events)) if _gap(events, n) > SESSION_GAP_MS]
        for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
            run = events[start:end]
            if run[-1][1] + SESSION_GAP_MS + LATENESS < watermark:
                sums = [len(run), *(sum(int(e[n]) for e in run) for n in (2, 3, 4))]
                found.add((user, run[0][1], run[-1][1], *sums))
    return found


def _gap(events: list[Event], place: int) -> int:
    return events[place][1] - events[place - 1][1]


@given(st.lists(steps, min_size=1, max_size=40), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_sessions_are_the_same_in_whatever_batches(drawn: list[Any], chance: random.Random) -> None:
    log = log_of(drawn)
    state, told, start, watermark = Sessions(LATENESS), [], 0, 0
    while start < len(log):
        batch = log[start : start + chance.randrange(1, 12)]
        start += len(batch)
        watermark = max(watermark, *(event[1] for event in batch))
        # Whatever is in a batch may be in any order: nothing of it is too late.
        add(state, chance.sample(batch, len(batch)))
        if chance.random() < 0.7 or start >= len(log):
            told += rows(state.close(watermark))
    assert len(told) == len(set(told))
    assert set(told) == oracle(log, watermark)


@given(st.lists(steps, min_size=1, max_size=40), st.integers(1, 40), st.integers(0, 40))
@settings(max_examples=80, deadline=None)
def test_a_log_of_changes_gives_the_same_sessions(
    drawn: list[Any], size: int, snapshot: int
) -> None:
    """A state restored from rows that were written as they changed, gone ones still among them."""
    log = log_of(drawn)
    state, copy = Sessions(LATENESS), Sessions(LATENESS)
    watermark, told = 0, []
    for start in range(0, len(log), size):
        batch = log[start : start + size]
        watermark = max(watermark, *(event[1] for event in batch))
        add(state, batch)
        told += rows(state.close(watermark))
        if start <= snapshot < start + size:
            state.drop_gone()
            copy = Sessions(LATENESS)
            copy.rows.load(state.rows.to_arrow())
        else:
            copy.rows.load(state.rows.to_arrow(state.rows.changed()))
        state.rows.forget_changes()
    copy.settle(watermark)
    state.settle(watermark)
    assert contents(copy) == contents(state)
    later = watermark + 10**9
    assert set(rows(copy.close(later))) == oracle(log, later) - set(told)


def test_what_is_merged_is_written_as_a_change() -> None:
    state, copy = Sessions(LATENESS), Sessions(LATENESS)
    log = [(1, NOON, True, False, 5), (1, NOON + SESSION_GAP_MS, True, False, 5)]
    ahead = (2, NOON + 65 * MINUTE, False, False, 0)
    for event in (*log, ahead):
        add(state, [event])
        assert not rows(state.close(event[1]))
        copy.rows.load(state.rows.to_arrow(state.rows.changed()))
        state.rows.forget_changes()
    copy.settle(ahead[1])
    over = NOON + 100 * MINUTE
    assert rows(copy.close(over)) == [(1, NOON, NOON + SESSION_GAP_MS, 2, 2, 0, 10)]
    assert len(state.rows) == 2


def contents(state: Sessions) -> dict[int, tuple[Any, ...]]:
    columns = [state.rows[name].tolist() for name in ("first", "last", *SUMS)]
    return dict(zip(state.rows.keys.tolist(), zip(*columns, strict=True), strict=True))


def test_a_pause_of_exactly_half_an_hour_goes_on_and_a_longer_one_does_not() -> None:
    state = Sessions(LATENESS)
    times = [NOON, NOON + SESSION_GAP_MS, NOON + 2 * SESSION_GAP_MS + 1]
    add(state, [(7, at, True, False, 10) for at in times])
    ends = times[1] + SESSION_GAP_MS + LATENESS
    assert not rows(state.close(ends))
    assert rows(state.close(ends + 1)) == [(7, NOON, times[1], 2, 2, 0, 20)]
    assert rows(state.close(ends + 10**9)) == [(7, times[2], times[2], 1, 1, 0, 10)]


def test_a_session_is_closed_by_the_first_event_that_is_far_enough_ahead() -> None:
    state = Sessions(LATENESS)
    ended = np.array([NOON])
    over = NOON + SESSION_GAP_MS + LATENESS
    assert state.closed_by(ended, np.array([NOON, over, over - 5, over + 1, over + 9])) == [3]


def test_a_listener_who_never_stops_holds_few_rows() -> None:
    state, held = Sessions(LATENESS), 0
    for minute in range(0, 3 * 24 * 60, 5):
        at = NOON + minute * MINUTE
        add(state, [(1, at, False, False, 1)])
        assert not rows(state.close(at))
        held = max(held, len(state.rows))
    assert held < 10
    ((_, started_at, ended_at, events, *_),) = rows(state.close(at + 10**9))
    assert (started_at, ended_at, events) == (NOON, at, 3 * 24 * 12)
    assert len(state.rows) == 0
