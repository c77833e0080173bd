"""Anomalies are a function of what was counted: of no cut, order, repeat or restart."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.units import MINUTE_MS
from streams.engagement.core.anomalies import (
    BIN_MINUTES,
    DAY_BINS,
    IDLE_BINS,
    LONGEST_GAP_BINS,
    WARM_UP_BINS,
)
from streams.engagement.core.anomaly_state import Anomaly, AnomalyState
from streams.engagement.core.window_rows import (
    WindowMessage,
)

START = 29_453_760
SCHEMA = {
    "episode_id": pl.String(),
    "bucket": pl.Int64(),
    "source_partition": pl.Int32(),
    "offset": pl.Int64(),
    "plays": pl.Int64(),
}

Row = tuple[str, int, int, int, int]
Closed = Mapping[int, int]


def message(
    offset: int, *rows: Row, closed: Closed | None = None, quiet: Closed | None = None
) -> WindowMessage:
    """Rows of episode, minute after START, source partition, offset and plays; and the last
    minute after START that is over, by source partition, and up to when it is quiet.

    The log's time is the minute at which it was over.
    """
    frame = pl.DataFrame(list(rows), schema=SCHEMA, orient="row")
    bucket = ((pl.col("bucket") + START) * MINUTE_MS).cast(pl.Datetime("ms", "UTC"))
    over = {source: minute + START for source, minute in (closed or {}).items()}
    logged_ms = {source: minute * MINUTE_MS for source, minute in over.items()}
    quiet_ms = {source: (at + START) * MINUTE_MS for source, at in (quiet or {}).items()}
    return WindowMessage(offset, 0, frame.with_columns(bucket), over, logged_ms, quiet_ms)


def steady(
    state: AnomalyState, minutes: range, plays: int = 10, episode: str = "pi:1", sources: int = 1
) -> list[Anomaly]:
    """So many plays in each of the minutes and source partitions, told together with all that
    comes before the next of them, and that it is over."""
    found = []
    for minute in minutes:
        for source in range(sources):
            row = (episode, minute, source, minute, plays)
            closed = {source: minute + minutes.step - 1}
            found += state.fold([message(state.applied + 1, row, closed=closed)])
    return found


def directions(found: Sequence[Anomaly]) -> list[tuple[str, int]]:
    """Direction, and the bin counted from START."""
    return [(one.surprise.direction, one.bin_number - START // BIN_MINUTES) for one in found]


def test_a_bin_is_judged_when_it_is_over_in_every_source_partition_and_once() -> None:
    state, minutes = AnomalyState(2), (WARM_UP_BINS + 1) * BIN_MINUTES
    assert steady(state, range(minutes), sources=2) == []
    last = minutes + BIN_MINUTES - 1
    planted = [("pi:1", last, 0, 600, 900), ("pi:1", last, 1, 5, 100)]
    assert state.fold([message(500, *planted, closed={0: last, 1: last - 1})]) == []
    # As long as it is open, the newest row of a source partition counts; then it is as it was.
    more = [("pi:1", last, 0, 601, 9000), ("pi:1", last, 1, 6, 150)]
    assert state.fold([message(501, *more, closed={0: last + 60})]) == []
    (rise,) = state.fold([message(502, closed={1: last})])
    assert (rise.episode_id, rise.plays, rise.surprise.direction) == ("pi:1", 1050, "rise")
    assert rise.at.timestamp() == (START + minutes) * 60
    assert state.fold([message(503, ("pi:1", last, 1, 9, 9999), closed={1: last + 60})]) == []


def test_silence_is_a_fall() -> None:
    state, minutes = AnomalyState(1), 3 * 60
    assert steady(state, range(minutes)) == []
    first = steady(state, range(minutes, minutes + 20), 1, "pi:2")[0]
    assert (first.surprise.direction, first.plays) == ("fall", 0)
    assert first.at.timestamp() == (START + minutes) * 60


@pytest.mark.parametrize("told_before", [True, False])
def test_a_lag_of_days_is_no_silence(told_before: bool) -> None:
    """As when a backlog is worked off, one source partition after the other, also by one that had
    said that it was quiet before its backlog came."""
    state, minutes = AnomalyState(2), 3 * 60
    if told_before:
        steady(state, range(minutes), 20, sources=2)
        assert state.fold([message(state.applied + 1, quiet={1: minutes})]) == []
    else:
        minutes = 0
    ahead = range(minutes, minutes + 3 * IDLE_BINS * BIN_MINUTES, BIN_MINUTES)
    assert steady(state, ahead, 100) == []
    assert len(state._parts) == 0
    behind = [(("pi:1", m, 1, m, 100), m + BIN_MINUTES - 1) for m in ahead]
    assert state.fold([message(10**6 + m, row, closed={1: m}) for row, m in behind]) == []
    assert state.closed == START // BIN_MINUTES + ahead.stop // BIN_MINUTES


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("restored", [True, False])
def test_a_source_partition_that_is_quiet_is_waited_for_for_a_day(
    told: bool, restored: bool
) -> None:
    quiet_from, day = 3 * 60, IDLE_BINS * BIN_MINUTES
    state = AnomalyState(2)
    steady(state, range(quiet_from), sources=2 if told else 1)
    later = quiet_from + day
    steady(state, range(quiet_from, later + 60, BIN_MINUTES), 1, "pi:2")
    assert state.closed == ((START + quiet_from) // BIN_MINUTES if told else 0)
    if restored:
        pieces = list(state.snapshot())
        state = AnomalyState(2)
        state.load_snapshot(pieces)
    # That it is quiet is known an hour late, and says nothing of what came in that hour.
    found = state.fold([message(state.applied + 1, quiet={1: later - 1})])
    assert state.closed == (START + quiet_from) // BIN_MINUTES
    assert found == []
    found = state.fold([message(state.applied + 1, quiet={1: later + 60})])
    assert state.closed == (START + quiet_from + 60) // BIN_MINUTES
    assert ("fall", quiet_from // BIN_MINUTES) in directions(found)
    # It comes back, and counts.
    back = later + 60
    assert steady(state, range(back, back + 90), 50, "pi:3", sources=2) == []
    silent = steady(state, range(back + 90, back + 110), 1, "pi:2", sources=2)
    fall = next(one for one in silent if one.episode_id == "pi:3")
    assert fall.surprise.expected == pytest.approx(2 * BIN_MINUTES * 50, rel=0.01)


def test_who_was_quiet_stays_so_as_long_as_the_log_says() -> None:
    """As in a replay, where all that was said comes before what it is about."""
    state, day = AnomalyState(2), IDLE_BINS * BIN_MINUTES
    state.fold([message(0, quiet={1: 2 * day, 7: 9})])
    steady(state, range(0, 2 * day, BIN_MINUTES))
    assert state.closed == (START + day) // BIN_MINUTES
    steady(state, range(2 * day, 3 * day, BIN_MINUTES))
    assert state.closed == (START + day) // BIN_MINUTES


@pytest.mark.parametrize("restored", [True, False])
def test_what_an_idle_one_has_said_before_counts(restored: bool) -> None:
    """Its last events are never over, as nothing follows them; they were counted all the same."""
    state, rush_at, day = AnomalyState(2), 3 * 60, IDLE_BINS * BIN_MINUTES
    steady(state, range(rush_at), 1, sources=2)
    parts = [("pi:1", rush_at, source, rush_at, 40) for source in (0, 1)]
    assert state.fold([message(state.applied + 1, *parts)]) == []
    assert steady(state, range(rush_at, rush_at + day + 60, BIN_MINUTES), 1, "pi:2") == []
    if restored:
        pieces = list(state.snapshot())
        state = AnomalyState(2)
        state.load_snapshot(pieces)
    found = state.fold([message(state.applied + 1, quiet={1: rush_at + day + 60})])
    assert (found[0].plays, found[0].surprise.direction) == (80, "rise")
    late = ("pi:1", rush_at, 1, rush_at + 1, 90)
    assert state.fold([message(state.applied + 1, late, closed={1: rush_at + 1})]) == []


@pytest.mark.parametrize("late", [True, False])
def test_in_which_order_it_is_told_where_others_were_is_the_same(late: bool) -> None:
    """As after a restart, by which an earlier minute is told after a later one."""
    state, day = AnomalyState(2), IDLE_BINS * BIN_MINUTES
    far, further = (message(n, closed={0: at}) for n, at in ((1, 2 * day), (2, 3 * day)))
    told = [further, replace(far, offset=3)] if late else [far, further]
    state.fold([message(0, ("pi:1", 0, 0, 0, 1), closed={0: 0}), *told])
    state.fold([message(4, quiet={1: 2 * day + 1})])
    assert state.closed == START // BIN_MINUTES + 1


def test_a_stretch_without_anything_says_nothing() -> None:
    for gap, falls in ((LONGEST_GAP_BINS, True), (LONGEST_GAP_BINS + 1, False)):
        for told_meanwhile in (True, False):
            state, minutes = AnomalyState(1), 3 * 60
            steady(state, range(minutes))
            later = minutes + gap * BIN_MINUTES
            for minute in range(minutes, later if told_meanwhile else 0):
                assert state.fold([message(minute, closed={0: minute})]) == []
            rows = [("pi:1", later, 0, 900, 50)]
            found = state.fold([message(900, *rows, closed={0: later + BIN_MINUTES})])
            assert bool(found) == falls


def test_an_event_that_is_no_play_ends_a_stretch_without_anything() -> None:
    state, minutes = AnomalyState(1), 3 * 60
    steady(state, range(minutes))
    later = minutes + LONGEST_GAP_BINS * BIN_MINUTES
    rows = [("pi:2", later, 0, 900, 0)]
    found = state.fold([message(900, *rows, closed={0: later + BIN_MINUTES})])
    assert directions(found)[0] == ("fall", minutes // BIN_MINUTES)


def test_nothing_is_kept_of_what_is_never_told_to_be_over() -> None:
    state = AnomalyState(1)
    for minute in range(100):
        assert state.fold([message(minute, (f"pi:{minute}", minute, 0, minute, 1))]) == []
    assert (state.applied, len(state._parts)) == (99, 0)
    found = state.fold(
        [message(100, ("pi:1", 100, 0, 100, 1), closed={0: 80, 5000: 9, -1: 9, 7: 1 << 70})]
    )
    assert (found, len(state._parts)) == ([], 1)


def test_who_is_silent_for_a_day_is_forgotten() -> None:
    state = AnomalyState(1)
    steady(state, range(60))
    for minute in range(60, 26 * 60, 4):
        steady(state, range(minute, minute + 1), 1, f"pi:{minute // 60}")
    assert len(state) <= 25
    pieces = list(state.snapshot())
    assert len(state.names) <= 2 * len(state) + 2
    copy = AnomalyState(1)
    copy.load_snapshot(pieces)
    assert len(copy) == len(state)
    # However many days are judged at once: it is as new.
    state = AnomalyState(1)
    steady(state, range(60))
    heard = [
        (minute, f"pi:{int(minute in (0, 62 + DAY_BINS * 5))}") for minute in range(0, 3000, 2)
    ]
    rows = [(episode, 60 + minute, 0, 60 + minute, 1) for minute, episode in heard]
    state.fold([message(10_000, *rows, closed={0: 3000})])
    (code,) = state.names.codes(pl.Series(["pi:1"]))
    assert state._episode_histories()[code].bins < 2 * DAY_BINS


def test_names_that_nothing_refers_to_are_forgotten_and_the_search_goes_on() -> None:
    """A new episode every hour for three days, beside one that is heard all the time."""
    state, hours = AnomalyState(1), 72
    for hour in range(hours):
        for minute in range(hour * 60, hour * 60 + 60, BIN_MINUTES):
            row = ("pi:always", minute, 0, 2 * minute, 40)
            other = (f"pi:{hour}", minute, 0, 2 * minute + 1, 9)
            over = {0: minute + BIN_MINUTES - 1}
            state.fold([message(state.applied + 1, row, other, closed=over)])
    known = len(state.names)
    copy = AnomalyState(1)
    copy.load_snapshot(list(state.snapshot()))
    assert len(state.names) == len(state) < known / 2
    assert "pi:always" in state.names.all()
    silent = range(hours * 60, hours * 60 + 30)
    found = steady(state, silent, 1, "pi:new")
    assert (found[0].episode_id, found[0].surprise.direction) == ("pi:always", "fall")
    assert steady(copy, silent, 1, "pi:new") == found


# -- any order, any cut ----------------------------------------------------------------------------

LATENESS = 4
SOURCES = 3
EPISODES = 3
MINUTES = 330
SILENT = (range(150, 200), range(240, 310))
"""A stretch that makes falls, and one that does not."""


def plays(seed: int) -> np.ndarray:
    """Plays by source, minute and episode: a steady rate, a rise, a fall, and silences."""
    counts = np.random.default_rng(seed).poisson(8, (SOURCES, MINUTES, EPISODES))
    counts[:, 100:, 0] = counts[:, 100:, 0] * 4
    counts[:, 120:, 2] = 0
    for silent in SILENT:
        counts[:, silent] = 0
    # Of a source partition that does not hear of it any more nothing is to be waited for.
    counts[1, 210:, :] = 0
    return counts


Told = tuple[list[Row], dict[int, int]]


def told(source: int, counts: np.ndarray, chance: random.Random) -> Iterator[Told]:
    """What a source partition tells: what has changed, as far as its events have come."""
    counted, before, offset = np.zeros_like(counts), -1, 0
    for now in range(len(counts)):
        if chance.random() < 0.6 and now < len(counts) - 1:
            continue
        rows: list[Row] = []
        for minute in range(max(0, before - LATENESS), now + 1):
            over = minute <= now - LATENESS - 1
            for episode, final in enumerate(counts[minute].tolist()):
                known = final if over else chance.randint(int(counted[minute, episode]), final)
                if known > counted[minute, episode]:
                    offset += 1
                    rows.append((f"pi:{episode}", minute, source, offset, known))
                    counted[minute, episode] = known
        chance.shuffle(rows)
        yield rows, {source: now - LATENESS - 1}
        before = now
    yield [], {source: len(counts)}


def logged(counts: np.ndarray, chance: random.Random) -> list[WindowMessage]:
    """What all of them tell, in an order and in messages that chance chooses."""
    waiting = [list(told(source, counts[source], chance))[::-1] for source in range(SOURCES)]
    made: list[Told] = []
    favourite = 0
    while any(waiting):
        if chance.random() < 0.05:
            favourite = chance.randrange(SOURCES)
        source = favourite if chance.random() < 0.9 else chance.randrange(SOURCES)
        if not waiting[source]:
            favourite = next(number for number in range(SOURCES) if waiting[number])
            continue
        rows, closed = waiting[source].pop()
        if made and chance.random() < 0.4:
            made[-1] = (made[-1][0] + rows, made[-1][1] | closed)
        else:
            made.append((rows, closed))
        if chance.random() < 0.1:
            made.append(chance.choice(made[-8:]))  # a worker that was started again repeats itself
    return [message(number, *rows, closed=closed) for number, (rows, closed) in enumerate(made)]


@pytest.mark.no_cover  # it doubles the time, and chance is no test of a branch
@given(st.integers(0, 1_000_000), st.integers(1, 9))
@settings(max_examples=8, deadline=None)
def test_order_and_cuts_and_restores_change_nothing(seed: int, cut: int) -> None:
    chance, counts = random.Random(seed), plays(seed)
    found = AnomalyState(SOURCES).fold(logged(counts, random.Random(0)))
    assert {("pi:0", "rise"), ("pi:2", "fall")} <= {
        (one.episode_id, one.surprise.direction) for one in found
    }
    keys = [(one.bin_number, one.episode_id) for one in found]
    assert keys == sorted(set(keys))

    messages = logged(counts, chance)
    state, follower, again = AnomalyState(SOURCES), AnomalyState(SOURCES), []
    for start in range(0, len(messages), cut):
        again += state.fold(messages[max(0, start - 2) : start + cut])
        follower.load_changes(state.changes())
        if chance.random() < 0.2:
            pieces = list(state.snapshot())
            state, follower = AnomalyState(SOURCES), AnomalyState(SOURCES)
            state.load_snapshot(pieces)
            follower.load_snapshot(pieces)
        elif chance.random() < 0.2:
            state, follower = follower, state
    assert again == found
