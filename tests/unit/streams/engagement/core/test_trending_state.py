"""What trending remembers is a function of the rows, however they are cut, and as often as told."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.units import MINUTE_MS
from streams.engagement.core.trending_state import (
    HALF_LIFE_MINUTES,
    HORIZON_MINUTES,
    SETTLE_MS,
    SLACK_MINUTES,
    TrendingState,
)
from streams.engagement.core.window_rows import WindowMessage
from streams.state.columnar import PIECE_ROWS

AT = 29_453_760 + 17
"""17 minutes past midnight UTC."""
LATENESS_S = 900
LATENESS = LATENESS_S // 60
SCHEMA = {
    "episode_id": pl.String(),
    "bucket": pl.Int64(),
    "source_partition": pl.Int32(),
    "offset": pl.Int64(),
    "plays": pl.Int64(),
    "new_listeners": pl.Int64(),
}

Row = tuple[str, int, int, int, int, int]
Step = tuple[str, int, int, int, int]
"""Episode, minutes back, source partition, plays and new listeners more."""
Cells = dict[tuple[str, int], list[int]]
"""Episode and minute: plays, new listeners."""


def message(offset: int, rows: list[Row], log_ms: int = 0) -> WindowMessage:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    bucket = (pl.col("bucket") * MINUTE_MS).cast(pl.Datetime("ms", "UTC"))
    return WindowMessage(offset, log_ms, frame.with_columns(bucket))


def figures(state: TrendingState) -> dict[str, tuple[Any, ...]]:
    totals = state.totals()
    columns = (totals.scores, totals.plays, totals.recent, totals.usual)
    numbers = zip(*(column.round(9).tolist() for column in columns), strict=True)
    return {e: n for e, n in zip(state.names.all(), numbers, strict=True) if any(n)}


def expected(cells: Cells) -> dict[str, tuple[Any, ...]]:
    """The same in plain Python."""
    at = max(minute for _, minute in cells)
    sums: dict[str, list[Any]] = defaultdict(lambda: [0.0, 0, 0, 0.0])
    for (episode, minute), (plays, new) in cells.items():
        age, hours_back = at - minute, at // 60 - minute // 60
        if age < HORIZON_MINUTES:
            sums[episode][0] += new * 2 ** (-age / HALF_LIFE_MINUTES)
            sums[episode][1] += plays
        if age < 60:
            sums[episode][2] += new
        elif hours_back < 24:
            sums[episode][3] += new / 23
        elif hours_back == 24:
            sums[episode][3] += new / 23 * (59 - at % 60) / 60
    return {e: tuple(round(x, 9) for x in n) for e, n in sums.items() if any(n)}


def told(steps: list[Step], size: int) -> tuple[list[list[Row]], Cells]:
    """What source partitions say, ``size`` steps a message, and what it adds up to."""
    counts: dict[tuple[str, int, int], list[int]] = defaultdict(lambda: [0, 0])
    cells: Cells = defaultdict(lambda: [0, 0])
    messages: list[list[Row]] = []
    for start in range(0, len(steps), size):
        rows: list[Row] = []
        for offset, (episode, back, source, plays, new) in enumerate(
            steps[start : start + size], start
        ):
            count = counts[episode, back, source]
            count[0], count[1] = count[0] + plays, count[1] + new
            rows.append((episode, AT - back, source, offset, count[0], count[1]))
        messages.append(rows)
    for (episode, back, _), count in counts.items():
        cell = cells[episode, AT - back]
        cell[0], cell[1] = cell[0] + count[0], cell[1] + count[1]
    return messages, dict(cells)


steps = st.lists(
    st.tuples(
        st.sampled_from(["pi:1", "pi:2", "pi:3"]),
        st.one_of(st.integers(0, 90), st.integers(0, 26 * 60)),
        st.integers(0, 2),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=40,
)


@given(steps, st.integers(1, 5), st.integers(1, 6), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_cuts_repeats_and_restores_change_nothing(
    log: list[Step], size: int, cut: int, chance: random.Random
) -> None:
    messages, cells = told(log, size)
    for _ in range(len(messages) // 2):  # a restart says again what it had said
        again = chance.choice(messages)
        messages.insert(chance.randrange(messages.index(again) + 1, len(messages) + 1), again)
    logged = [message(offset, rows) for offset, rows in enumerate(messages)]
    whole = TrendingState(LATENESS_S)
    assert whole.fold(logged)
    assert figures(whole) == expected(cells)
    assert not whole.fold(logged[-1:])

    state, follower = TrendingState(LATENESS_S), TrendingState(LATENESS_S)
    for start in range(0, len(logged), cut):
        state.fold(logged[max(0, start - 1) : start + cut])
        follower.load_changes(state.changes())
        if chance.random() < 0.3:
            before, pieces = figures(state), list(state.snapshot())
            state, follower = TrendingState(LATENESS_S), TrendingState(LATENESS_S)
            state.load_snapshot(pieces)
            follower.load_snapshot(pieces)
            assert figures(state) == before
    assert figures(state) == figures(follower) == figures(whole)
    assert state.applied == follower.applied == len(logged) - 1
    assert state.at == follower.at == max(minute for _, minute in cells)


def test_changes_go_over_a_state_that_has_some_of_them() -> None:
    """Two workers folded the same log in batches of their own; both have written."""
    rows = [[(f"pi:{n % 2}", AT, 0, n, n, n), ("pi:9", AT, 1, n, n, 1)] for n in range(1, 7)]
    log = [message(offset, some) for offset, some in enumerate(rows)]
    first, second, restored = (TrendingState(LATENESS_S) for _ in range(3))
    first.fold(log[:3])
    second.fold(log)
    restored.load_changes(first.changes())
    restored.load_changes(second.changes())
    assert figures(restored) == figures(second)
    assert restored.names.all() == second.names.all() == ["pi:1", "pi:9", "pi:0"]


def test_an_old_row_that_is_told_again_is_not_counted_again() -> None:
    state, log_ms = TrendingState(LATENESS_S), AT * MINUTE_MS
    repeated = ("pi:1", AT - LATENESS - SLACK_MINUTES - 1, 0, 1, 5, 5)
    state.fold([message(0, [repeated], log_ms)])
    for offset in range(1, 4):
        # Source partition 0 goes on; 1 is behind, and what it says is new all the same.
        log_ms += SETTLE_MS
        state.fold([message(offset, [("pi:2", AT, 0, 9, 0, 0)], log_ms)])
    assert len(state._parts) == 0
    late = ("pi:1", repeated[1], 1, 1, 1, 1)
    state.fold([message(9, [repeated, late], log_ms)])
    score, plays, *_ = figures(state)["pi:1"]
    assert plays == 6
    assert score == pytest.approx(6 * 2 ** (-(AT - repeated[1]) / HALF_LIFE_MINUTES))


def test_messages_that_belong_together_may_be_in_any_order() -> None:
    """A source partition that catches up tells of hours at once, the newest first or last."""
    state, log_ms = TrendingState(LATENESS_S), AT * MINUTE_MS + MINUTE_MS
    for offset, back in enumerate((0, 300, 5, 200)):
        rows = [("pi:1", AT - back, 0, offset, 1, 1)]
        state.fold([message(offset, rows, log_ms + offset * 1000)])
    assert figures(state)["pi:1"][1] == 4


def test_memory_is_bounded_by_time_not_by_rows() -> None:
    state, copy = TrendingState(LATENESS_S), TrendingState(LATENESS_S)
    sizes, counts = [], {}
    for minute in range(0, 48 * 60, 2):
        rows = [
            (f"pi:{minute // 100}-{n}", AT + minute, source, minute, 1, 1)
            for n in range(3)
            for source in range(2)
        ]
        state.fold([message(minute, rows, (AT + minute) * MINUTE_MS)])
        for episode, at, *_ in rows:
            counts[episode, at] = [2, 2]
        if minute % 600 == 598:
            copy.load_changes(state.changes())
            assert figures(state) == figures(copy) == expected(counts)
            pieces, copy = list(state.snapshot()), TrendingState(LATENESS_S)
            sizes.append(sum(map(len, pieces)))
            copy.load_snapshot(pieces)
            assert figures(state) == figures(copy) == expected(counts)
    assert sizes[3] < 1.1 * sizes[2]
    assert len(state.names) <= 2 * 3 * 26  # those of 26 hours at most, and as many forgotten ones
    assert len(state._parts) <= 6 * (LATENESS + SLACK_MINUTES + 4)


def test_a_snapshot_comes_in_pieces() -> None:
    state, copy = TrendingState(LATENESS_S), TrendingState(LATENESS_S)
    rows = [(f"pi:{n}", AT, 0, 0, 1, n) for n in range(PIECE_ROWS + 5)]
    state.fold([message(0, rows)])
    pieces = list(state.snapshot())
    # The figures; the names, the rows, the minutes, and all hours but that of the episode without
    # any.
    assert len(pieces) == 1 + 4 * 2
    copy.load_snapshot(pieces)
    assert figures(copy) == figures(state)


def test_a_fast_clock_waits_until_its_time_has_come() -> None:
    state, log_ms = TrendingState(LATENESS_S), AT * MINUTE_MS
    ahead = ("pi:fast", AT + 90, 0, 0, 1, 1)
    state.fold([message(0, [ahead, ("pi:1", AT, 0, 1, 1, 1)], log_ms)])
    assert state.at == AT
    assert figures(state) == {"pi:1": (1.0, 1, 1, 0.0)}
    state.fold([message(1, [("pi:1", AT + 90, 1, 1, 1, 1)], log_ms + 90 * MINUTE_MS)])
    assert figures(state)["pi:fast"] == (1.0, 1, 1, 0.0)
