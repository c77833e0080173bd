"""Anomalies are a function of the log: of no cut, no repeat and no restart."""

from __future__ import annotations

import random

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.anomalies import BIN_MINUTES, GRACE_MINUTES, LONGEST_GAP_BINS, WARM_UP_BINS
from streams.core.anomaly_state import Anomaly, AnomalyState
from streams.core.window_rows import MINUTE_MS, Logged

START = 29_453_760
SCHEMA = {
    "episode_id": pl.String(),
    "bucket": pl.Int64(),
    "source_partition": pl.Int32(),
    "offset": pl.Int64(),
    "plays": pl.Int64(),
}

Row = tuple[str, int, int, int, int]


def message(offset: int, *rows: Row, log_ms: int = 0) -> Logged:
    """Rows of episode, minute after START, source partition, offset and plays."""
    frame = pl.DataFrame(list(rows), schema=SCHEMA, orient="row")
    bucket = ((pl.col("bucket") + START) * MINUTE_MS).cast(pl.Datetime("ms", "UTC"))
    return Logged(offset, log_ms, frame.with_columns(bucket))


def steady(state: AnomalyState, minutes: int, plays: int = 10, episode: str = "pi:1") -> None:
    """So many plays every minute from START on."""
    first = state.applied + 1
    for offset in range(first, first + minutes):
        assert state.fold([message(offset, (episode, offset, 0, offset, plays))]) == []


def test_a_bin_is_closed_two_minutes_after_its_end_and_once() -> None:
    state, minutes = AnomalyState(), (WARM_UP_BINS + 1) * BIN_MINUTES
    steady(state, minutes)
    planted = minutes + BIN_MINUTES - 1
    assert state.fold([message(500, ("pi:1", planted, 0, 600, 900))]) == []
    last = minutes + BIN_MINUTES + GRACE_MINUTES - 1
    assert state.fold([message(501, ("pi:2", last, 0, 601, 0))]) == []
    # As long as it is open, source partitions add up, and the newest row counts.
    more = [("pi:1", planted, 1, 5, 100), ("pi:1", planted, 0, 602, 950)]
    assert state.fold([message(502, *more)]) == []
    (rise,) = state.fold([message(503, ("pi:2", last + 1, 0, 603, 0))])
    assert (rise.episode_id, rise.plays, rise.surprise.direction) == ("pi:1", 1050, "rise")
    assert rise.at.timestamp() == (START + minutes) * 60
    assert state.fold([message(504, ("pi:1", planted, 0, 604, 9999))]) == []
    assert state.fold([message(505, ("pi:2", last + 2, 0, 605, 0))]) == []


def test_silence_is_a_fall() -> None:
    state, minutes = AnomalyState(), 3 * 60
    steady(state, minutes)
    found: list[Anomaly] = []
    for minute in range(minutes, minutes + 20):
        found += state.fold([message(minute, ("pi:2", minute, 0, minute, 1))])
    first = found[0]
    assert (first.surprise.direction, first.plays) == ("fall", 0)
    assert first.at.timestamp() == (START + minutes) * 60


def test_a_stretch_without_anything_says_nothing() -> None:
    for gap, falls in ((LONGEST_GAP_BINS, True), (LONGEST_GAP_BINS + 1, False)):
        state, minutes = AnomalyState(), 3 * 60
        steady(state, minutes)
        later = minutes + gap * BIN_MINUTES + GRACE_MINUTES
        found = state.fold([message(900, ("pi:1", later, 0, 900, 10))])
        assert bool(found) == falls


def test_a_fast_clock_closes_nothing() -> None:
    state = AnomalyState()
    for minute in range(60):
        log_ms = (START + minute) * MINUTE_MS
        fast = ("pi:1", minute + 600, 0, 1, 1)
        state.fold([message(minute, ("pi:1", minute, 0, minute, 5), fast, log_ms=log_ms)])
    assert len(state) == 1
    state.fold([message(60, ("pi:1", 60, 0, 60, 5), log_ms=(START + 60) * MINUTE_MS)])
    (figures,) = state._figures.to_arrow().to_pylist()
    assert figures["bins"] == (60 - GRACE_MINUTES) // BIN_MINUTES


def test_who_is_silent_for_a_day_is_forgotten() -> None:
    state = AnomalyState()
    steady(state, 60)
    for offset in range(60, 26 * 60, 4):
        state.fold([message(offset, (f"pi:{offset // 60}", offset, 0, offset, 1))])
    assert len(state) <= 25
    state.snapshot()
    assert len(state._names) <= 2 * len(state) + 2
    copy = AnomalyState()
    copy.load_snapshot(state.snapshot())
    assert len(copy) == len(state)


@given(st.integers(0, 1_000_000), st.integers(1, 9))
@settings(max_examples=10, deadline=None)
def test_cuts_repeats_and_restores_change_nothing(seed: int, cut: int) -> None:
    chance, counts = random.Random(seed), np.random.default_rng(seed)
    said: list[list[Row]] = []
    offset = 0
    for minute in range(150):
        rows = []
        for source in range(2):
            for number in range(3):
                rate = 20 if minute < 100 else (60 * number)
                offset += 1
                rows.append((f"pi:{number}", minute, source, offset, int(counts.poisson(rate))))
        chance.shuffle(rows)
        said += [rows[:4], rows[4:]]
        if chance.random() < 0.2:
            said.append(chance.choice(said[-8:]))
    logged = [message(number, *rows) for number, rows in enumerate(said)]

    whole = AnomalyState()
    found = whole.fold(logged)
    assert {anomaly.episode_id for anomaly in found} >= {"pi:0", "pi:2"}
    keys = [(anomaly.bin_number, anomaly.episode_id) for anomaly in found]
    assert keys == sorted(set(keys))

    state, follower, again = AnomalyState(), AnomalyState(), []
    for start in range(0, len(logged), cut):
        again += state.fold(logged[max(0, start - 2) : start + cut])
        follower.load_changes(state.changes())
        if chance.random() < 0.2:
            copy = AnomalyState()
            copy.load_snapshot(state.snapshot())
            state = copy
        elif chance.random() < 0.2:
            state, follower = follower, state
    assert again == found
    end = message(len(logged), *((f"pi:{n}", 190, 0, offset, 1) for n in range(3)))
    assert state.fold([end]) == whole.fold([end])
