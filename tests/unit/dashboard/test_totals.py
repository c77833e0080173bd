"""Minutes over all episodes, of the embedded server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from dashboard import totals
from schemas.metrics import ADDITIVE_METRICS
from tests.hours import put_minute

pytestmark = pytest.mark.mongo

NOW = datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
Documents = Database[dict[str, Any]]


def put(database: Documents, minutes_ago: int, plays: int, of: datetime = NOW) -> None:
    put_minute(database, of.replace(second=0) - minutes_ago * MINUTE, plays)


def window(database: Documents, minutes: int) -> totals.Window:
    found = totals.rolling_window(database, minutes, NOW)
    assert found is not None
    return found


def test_an_empty_database_has_no_window(database: Documents) -> None:
    assert totals.rolling_window(database, 15, NOW) is None
    assert totals.newest_minute(database) is None
    assert totals.served(database, NOW, NOW + MINUTE).minutes.is_empty()


def test_window_is_the_last_minutes_up_to_and_with_this_one(database: Documents) -> None:
    put(database, 5, 4)
    put(database, 4, 2)
    put(database, 0, 1)
    five = window(database, 5)
    assert not five.historic
    assert five.minutes == 5
    assert totals.counts_over_time(database, five)["plays"].to_list() == [2, 0, 0, 0, 1]


def test_old_events_are_shown_up_to_the_newest_one(database: Documents) -> None:
    then = datetime(1998, 4, 22, 23, 10, tzinfo=UTC)
    put(database, 7, 5, of=then)
    put(database, 0, 3, of=then)
    five = window(database, 5)
    assert five.historic
    assert five.end == then + MINUTE
    assert totals.counts_over_time(database, five)["plays"].sum() == 3
    assert totals.newest_minute(database) == then


def test_a_clock_that_is_ahead_hides_nothing(database: Documents) -> None:
    put(database, 3, 2)
    put(database, -300, 1)
    five = window(database, 5)
    assert not five.historic
    assert totals.counts_over_time(database, five)["plays"].sum() == 2
    assert window(database, 1).end == NOW.replace(second=0) + 301 * MINUTE


def test_longer_spans_add_up_to_the_same(database: Documents) -> None:
    for minutes_ago in (1439, 700, 11, 10, 9, 3, 0):
        put(database, minutes_ago, 1)
    day = window(database, 24 * 60)
    by_minute = totals.counts_over_time(database, day)
    by_ten = totals.counts_over_time(database, day, 10)
    assert len(by_minute) == 1440
    assert len(by_ten) == 144
    assert by_ten["plays"].to_list()[-2:] == [2, 3]
    for name in ADDITIVE_METRICS:
        assert by_minute[name].sum() == by_ten[name].sum()


def test_each_partition_tells_where_it_begins(database: Documents) -> None:
    at = datetime(2026, 1, 31, 10, 20, tzinfo=UTC)
    put_minute(database, at, 1, partition=0)
    put_minute(database, at + 5 * MINUTE, 2, partition=3)
    put_minute(database, at + 60 * MINUTE, 2, partition=3)
    found = totals.served(database, at, at + 61 * MINUTE)
    assert found.first == {0: at, 3: at + 5 * MINUTE}
    assert found.minutes["plays"].to_list() == [1, 2, 2]


def test_more_hours_than_are_bounded_are_refused(database: Documents) -> None:
    totals.served(database, NOW, NOW + (totals.MOST_HOURS - 1) * totals.HOUR)
    with pytest.raises(ValueError, match="hours"):
        totals.served(database, NOW, NOW + totals.MOST_HOURS * totals.HOUR)


def test_a_window_may_be_drawn_longer_to_the_same_end() -> None:
    one = totals.Window(NOW - MINUTE, NOW, historic=False)
    assert one.at_least(5).minutes == 5
    assert one.at_least(5).end == one.end
    assert one.at_least(1) == one
