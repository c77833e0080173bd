"""An episode's history tells chance from change."""

from __future__ import annotations

import numpy as np
import pytest

from streams.engagement.core.anomalies import DAY_BINS, WARM_UP_BINS, History


def found(history: History, counts: list[int]) -> list[tuple[int, str]]:
    """The places and directions of the anomalies in what follows."""
    anomalies = list[tuple[int, str]]()
    for number, plays in enumerate(counts):
        if (surprise := history.score_one(plays)) is not None:
            anomalies.append((number, surprise.direction))
        history.learn_one(number, plays)
    return anomalies


def by_day_and_night(rate: float, episodes: int, days: int, seed: int) -> np.ndarray:
    """Poisson counts, shape (episodes, bins), whose rate swings by 80 % over the day."""
    random = np.random.default_rng(seed)
    hours = 2 * np.pi * (np.arange(days * DAY_BINS) / DAY_BINS + random.random((episodes, 1)))
    return random.poisson(rate * (1 + 0.8 * np.sin(hours)))


def steady(rate: float, episodes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).poisson(rate, (episodes, DAY_BINS))


def test_chance_and_the_hours_of_the_day_raise_no_alarm() -> None:
    episodes, days = 40, 3
    alarms = sum(
        len(found(History(), counts.tolist()))
        for seed, rate in enumerate((0.3, 2, 10, 50, 300))
        for counts in by_day_and_night(rate, episodes, days, seed)
    )
    assert alarms <= 1  # in 600 episode-days


@pytest.mark.parametrize("rate", [20, 50, 300])
def test_a_change_is_found_at_once(rate: int) -> None:
    random, late = np.random.default_rng(rate), 0
    for counts in steady(rate, 50, seed=rate).tolist():
        for factor, direction in ((5, "rise"), (0, "fall")):
            history = History()
            assert found(history, counts) == []
            changed = random.poisson(rate * factor, 2).tolist()
            late += (0, direction) not in found(history, changed)
    assert late <= 2  # of 100


def test_after_a_while_the_new_level_is_the_usual_one() -> None:
    history = History()
    found(history, [20] * 50)
    rises = found(history, [100] * DAY_BINS)
    assert rises
    assert rises[-1][0] < 12
    assert found(history, [100] * 10) == []


def test_small_counts_raise_no_alarm() -> None:
    for counts in ([0] * 50 + [9], [1] * 50 + [10], [9] * 50 + [0]):
        assert found(History(), counts) == []


def test_there_is_no_alarm_before_there_is_a_history() -> None:
    for bins in range(WARM_UP_BINS):
        assert found(History(), [30] * bins + [1000]) == []
    assert found(History(), [30] * WARM_UP_BINS + [1000]) == [(WARM_UP_BINS, "rise")]


def test_a_first_bin_that_was_not_whole_hides_nothing() -> None:
    """A history begins in the middle of a bin, and may begin with a change."""
    for first in (0, 150):
        history = History()
        assert found(history, [first] + [600] * 30) == []
        assert found(history, [1200]) == [(0, "rise")]


def test_what_was_expected_is_told_in_plays() -> None:
    history = History()
    found(history, np.random.default_rng(1).poisson(40, 200).tolist())
    surprise = history.score_one(200)
    assert surprise is not None
    assert surprise.expected == pytest.approx(40, rel=0.1)
    assert surprise.score == pytest.approx(2 * (200**0.5 - 40**0.5), rel=0.2)


@pytest.mark.parametrize("bins", [1, 2, 100])
def test_a_restored_history_is_the_same(bins: int) -> None:
    counts = np.random.default_rng(bins).poisson(30, 300).tolist()
    history = History()
    found(history, counts[:bins])
    copy = History.restored(history.bins, history.last_heard, history.level, history.error)
    assert found(copy, [*counts[bins:], 500]) == found(history, [*counts[bins:], 500])
    assert (copy.bins, copy.level, copy.error) == (history.bins, history.level, history.error)
