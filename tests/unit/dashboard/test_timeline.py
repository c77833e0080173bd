"""Two stores that hold the same minutes for a while: no gap and no double count where they meet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake
from pymongo.database import Database

from dashboard import history, timeline, totals
from schemas.metrics import ADDITIVE_METRICS
from tests.hours import put_minute

pytestmark = pytest.mark.mongo

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
END = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
START = END - timedelta(days=7)
PARTITIONS = 3
Documents = Database[dict[str, Any]]
Minutes = dict[tuple[datetime, int], int]
"""Minute and source partition -> plays."""


@pytest.fixture
def listening() -> Minutes:
    """A week of some 600 minutes, whole hours without any among them."""
    random = Random(4)
    minutes = range(7 * 24 * 60)
    found = {
        (START + at * MINUTE, random.randrange(PARTITIONS)): random.randrange(1, 9)
        for at in random.sample(minutes, 600)
        if at // 60 % 7
    }
    # Both ends of the hour before the end, and one partition that is quiet for the last two days.
    return {
        (at, place): plays
        for (at, place), plays in sorted(found.items())
        if place != 2 or at < END - timedelta(days=2)
    } | {(END - MINUTE, 0): 5, (END - HOUR, 1): 7}


def write_delta(root: Path, minutes: Minutes) -> None:
    rows = [
        {
            "episode_id": episode,
            "bucket": at,
            "source_partition": place,
            **dict.fromkeys(ADDITIVE_METRICS, count),
            "impressions": 10 * count,
            "heard_ms": 60_000 * count,
            "event_date": at.date(),
        }
        for (at, place), plays in minutes.items()
        for episode, count in (("a", plays - 1), ("b", 1))
    ]
    frame = pl.DataFrame(rows, schema_overrides={"source_partition": pl.Int32})
    write_deltalake(str(root / "engagement_minutes"), frame.to_arrow(), partition_by=["event_date"])


def shown(database: Documents, root: Path) -> dict[datetime, int]:
    served = totals.served(database, timeline.served_from(END), END)
    opened = history.open_history(str(root), timeline.TABLES)
    found = timeline.hours(opened, served, START, END)
    assert found["heard_ms"].to_list() == [60_000 * plays for plays in found["plays"]]
    return dict(found.select("at", "plays").iter_rows())


def expected(minutes: Minutes) -> dict[datetime, int]:
    hours: dict[datetime, int] = {}
    for (at, _), plays in minutes.items():
        hour = at.replace(minute=0)
        hours[hour] = hours.get(hour, 0) + plays
    return hours


@pytest.mark.parametrize("behind", [0, 20, 40 * 60], ids=["at once", "as usual", "far behind"])
@pytest.mark.parametrize("kept", [3 * 60 + 17, 26 * 60, 48 * 60], ids=lambda m: f"{m} minutes")
def test_hours_are_whole_wherever_the_stores_meet(
    database: Documents, tmp_path: Path, listening: Minutes, kept: int, behind: int
) -> None:
    """``kept``: how far MongoDB reaches back; ``behind``: how late Delta is, where it may be."""
    late = min(behind, kept)
    write_delta(
        tmp_path, {(at, p): n for (at, p), n in listening.items() if at < END - late * MINUTE}
    )
    for (at, place), plays in listening.items():
        # An instance that goes on after an upgrade: each partition begins somewhere of its own.
        if at >= END - (kept - 7 * place) * MINUTE:
            put_minute(database, at, plays, place)
    if late == kept:
        missing = {(at, p) for at, p in listening if END - kept * MINUTE <= at < END}
        missing = {(at, p) for at, p in missing if at < END - (kept - 7 * p) * MINUTE}
        listening = {place: n for place, n in listening.items() if place not in missing}
    assert shown(database, tmp_path) == expected(listening)


def test_either_store_alone_is_enough(
    database: Documents, tmp_path: Path, listening: Minutes
) -> None:
    newest = {
        (at, place): plays
        for (at, place), plays in listening.items()
        if at >= timeline.served_from(END)
    }
    for (at, place), plays in newest.items():
        put_minute(database, at, plays, place)
    assert shown(database, tmp_path / "nothing") == expected(newest)
    database["engagement_totals"].drop()
    write_delta(tmp_path, listening)
    assert shown(database, tmp_path) == expected(listening)
