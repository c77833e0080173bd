"""Two sides of a table: what agrees, what differs and by how much, and what cannot be told yet."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from schemas import columnar
from schemas.metrics import LISTENING_METRICS, WINDOW_METRICS
from streams.operations.core.version_diff import (
    LARGEST,
    TABLES,
    Repeats,
    Span,
    TableDiff,
    bucket_of,
    newest,
    plain,
)
from topology.topics.engagement import ENGAGEMENT_WINDOWS, USER_EPISODE_DAILY

START = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
BY_NAME = {table.name: table for table in TABLES}
WINDOWS, DAILY = BY_NAME[ENGAGEMENT_WINDOWS.name], BY_NAME[USER_EPISODE_DAILY.name]
EVERYTHING = Span({}, {0: 1_000, 1: 1_000})


def window(minute: int, offset: int, partition: int = 0, **counts: int) -> dict[str, Any]:
    return {
        "episode_id": "pi:1",
        "bucket": START + timedelta(minutes=minute),
        "source_partition": partition,
        "offset": offset,
        **dict.fromkeys(WINDOW_METRICS, 0),
        **counts,
    }


def windows(*rows: dict[str, Any]) -> pl.DataFrame:
    return plain(pl.DataFrame(list(rows), schema=columnar.columns("engagement_window")))


def compared(a: pl.DataFrame, b: pl.DataFrame, span: Span = EVERYTHING) -> TableDiff:
    found = TableDiff("windows")
    found.add(WINDOWS, a, b, span)
    return found


def test_what_says_the_same_agrees_however_it_came_to_be() -> None:
    a = windows(window(0, 5, plays=1), window(0, 9, plays=3), window(1, 7, plays=1))
    b = windows(window(1, 7, plays=1), window(0, 9, plays=3), window(0, 9, plays=3))
    found = compared(a, b)
    assert not found.differs
    assert found.digests[0] == found.digests[1]
    assert (found.rows_a, found.rows_b, found.moving) == (2, 2, 0)
    assert found.sums["plays"] == (4, 4)
    assert found.largest == []


def test_what_differs_is_told_by_key_with_both_values() -> None:
    a = windows(window(0, 5, streams=1), window(1, 6, streams=4), window(2, 7, plays=1))
    b = windows(window(0, 5, streams=3), window(1, 6, streams=4), window(3, 8, plays=9))
    found = compared(a, b)
    assert found.differs
    assert found.digests[0] != found.digests[1]
    assert (found.changed, found.only_a, found.only_b) == (1, 1, 1)
    assert found.changed_metrics() == ["plays", "streams"]
    assert found.sums["streams"] == (5, 7)
    assert [one.size for one in found.largest] == [9, 2, 1]
    most, changed, _ = found.largest
    assert most.a is None
    assert changed.a is not None
    assert changed.b is not None
    assert (changed.a["streams"], changed.b["streams"]) == (1, 3)
    told = json.loads(json.dumps(found.as_dict()))
    assert told["largest"][1]["key"]["bucket"] == START.isoformat()
    assert told["largest"][0]["a"] is None


def test_only_the_largest_differences_are_kept() -> None:
    found = TableDiff("windows")
    for minute in range(3 * LARGEST):
        found.add(WINDOWS, windows(), windows(window(minute, 1, plays=minute)), EVERYTHING)
    assert [one.size for one in found.largest] == list(range(29, 19, -1))


def test_what_moves_on_either_side_is_left_out() -> None:
    span = Span({}, {0: 10, 1: 20})
    a = windows(window(0, 9, plays=1), window(1, 10, plays=1), window(2, 15, 1, plays=1))
    b = windows(window(0, 12, plays=2), window(1, 9, plays=1), window(2, 15, 1, plays=1))
    found = compared(a, b, span)
    assert not found.differs
    assert (found.moving, found.rows_a) == (2, 1)


def test_a_partition_that_nobody_has_counted_is_left_out() -> None:
    found = compared(windows(window(0, 9, 3, plays=1)), windows(), EVERYTHING)
    assert not found.differs
    assert found.moving == 1


def test_what_one_side_holds_no_more_is_left_out() -> None:
    span = Span({0: 8}, {0: 1_000})
    found = compared(windows(window(1, 9)), windows(window(0, 7), window(1, 9)), span)
    assert not found.differs
    assert (found.rows_a, found.rows_b, found.moving) == (1, 1, 1)


def amount(user: str, first: int, last: int, heard_ms: int) -> dict[str, Any]:
    return {
        "user_id": user,
        "episode_id": "pi:1",
        "day": date(2026, 1, 31),
        "source_partition": 0,
        "first_offset": first,
        "last_offset": last,
        **dict.fromkeys(LISTENING_METRICS, 0),
        "heard_ms": heard_ms,
        "first_at": START,
        "last_at": START,
        "duration_ms": 0,
    }


def amounts(*rows: dict[str, Any]) -> pl.DataFrame:
    return plain(pl.DataFrame(list(rows), schema=columnar.columns("user_episode_daily")))


def test_amounts_add_up_however_batches_were_cut_and_repeats_are_dropped() -> None:
    repeats = Repeats(DAILY)
    messages = [
        amounts(amount("anna", 0, 3, 5), amount("ben", 0, 3, 1)),
        amounts(amount("anna", 4, 7, 6)),
        amounts(amount("anna", 4, 7, 6)),
    ]
    a = pl.concat([repeats.drop(rows) for rows in messages]).select(DAILY.columns)
    b = amounts(amount("anna", 0, 7, 11), amount("ben", 0, 7, 1)).select(DAILY.columns)
    found = TableDiff("daily")
    found.add(DAILY, a, b, EVERYTHING)
    assert not found.differs
    assert found.sums["heard_ms"] == (12, 12)
    moving = TableDiff("daily")
    moving.add(DAILY, a, b, Span({}, {0: 7}))
    assert (moving.differs, moving.moving) == (False, 2)
    partly = newest(DAILY, pl.concat([newest(DAILY, a[:1]).select(DAILY.columns), a[1:]]))
    assert partly.sort("user_id")["heard_ms"].to_list() == [11, 1]


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_parts_of_the_keys_add_up_to_the_whole(seed: int, number: int) -> None:
    chance = random.Random(seed)
    rows = [
        window(chance.randrange(6), chance.randrange(900), chance.randrange(2), plays=1)
        for _ in range(number)
    ]
    a, b = windows(*rows), windows(*rows[: number // 2])
    whole, parts = compared(a, b), TableDiff("windows")
    for part in range(4):
        some = [side.filter(bucket_of(WINDOWS, side, 4) == part) for side in (a, b)]
        parts.add(WINDOWS, some[0], some[1], EVERYTHING)
    for name in ("rows_a", "rows_b", "only_a", "only_b", "changed", "sums", "differs"):
        assert getattr(whole, name) == getattr(parts, name)


def test_every_table_is_compared_by_columns_that_it_has() -> None:
    for table in TABLES:
        declared = columnar.columns(str(table.topic.schema))
        assert set(table.columns) <= set(declared), table.name
        assert all(declared[name].is_integer() for name in table.metrics), table.name
