"""Rows of `engagement-windows`: of those with one key, the newest counts."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from schemas.units import MINUTE_MS
from streams.engagement.core.window_rows import (
    MINUTE_BITS,
    SOURCE_BITS,
    SOURCES,
    SourceCounts,
    WindowMessage,
    minute_of,
    source_of,
    window_rows,
)
from streams.state.interner import StringInterner

MINUTE = 29_453_760
COUNTS = ("plays",)
SHIFTS = {"parts": MINUTE_BITS + SOURCE_BITS}

Row = tuple[str | None, int | None, int | None, int | None, int | None]
"""Episode, minute, source partition, offset, plays."""


def message(*rows: Row, log_ms: int = 0, offset: int = 0) -> WindowMessage:
    frame = pl.DataFrame(
        list(rows),
        schema={
            "episode_id": pl.String(),
            "bucket": pl.Int64(),
            "source_partition": pl.Int32(),
            "offset": pl.Int64(),
            "plays": pl.Int64(),
        },
        orient="row",
    )
    bucket = (pl.col("bucket") * MINUTE_MS).cast(pl.Datetime("ms", "UTC"))
    return WindowMessage(offset, log_ms, frame.with_columns(bucket))


def held(parts: SourceCounts, names: StringInterner) -> dict[tuple[str, int, int], int]:
    episodes = names.of(parts.keys >> SHIFTS["parts"])
    keys = zip(
        episodes, minute_of(parts.keys).tolist(), source_of(parts.keys).tolist(), strict=True
    )
    return dict(zip(keys, parts["plays"].tolist(), strict=True))


rows = st.builds(
    lambda episode, minute, source, offset: (episode, MINUTE + minute, source, offset, 3 * offset),
    st.sampled_from(["pi:1", "pi:2", "ü:3"]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 20),
)


@given(st.lists(rows, min_size=1, max_size=30), st.integers(1, 8))
def test_the_highest_offset_counts_in_any_order_and_cut(log: list[Row], size: int) -> None:
    parts, names, grown = SourceCounts(COUNTS), StringInterner(), 0
    for start in range(0, len(log), size):
        read = window_rows([message(*log[start : start + size])], COUNTS)
        _, more = parts.replace(read.keys(names), read)
        grown += int(more["plays"].sum())
    newest: dict[Any, Any] = {}
    for *key, _offset, plays in log:
        newest[tuple(key)] = max(plays, newest.get(tuple(key), 0))
    assert held(parts, names) == newest
    assert grown == sum(newest.values())


def test_a_count_that_was_corrected_shrinks() -> None:
    parts, names = SourceCounts(COUNTS), StringInterner()
    for offset, plays, expected in ((1, 5, 5), (2, 3, -2), (1, 9, None)):
        read = window_rows([message(("pi:1", MINUTE, 0, offset, plays))], COUNTS)
        _, grown = parts.replace(read.keys(names), read)
        assert grown["plays"].tolist() == ([] if expected is None else [expected])


def test_what_no_key_can_hold_is_left_out() -> None:
    good = ("pi:1", MINUTE, SOURCES - 1, 0, 1)
    bad = [
        (None, MINUTE, 0, 0, 1),
        ("pi:1", -1, 0, 0, 1),
        ("pi:1", 1 << MINUTE_BITS, 0, 0, 1),
        ("pi:1", MINUTE, SOURCES, 0, 1),
        ("pi:1", MINUTE, -1, 0, 1),
        ("pi:1", MINUTE, 0, -1, 1),
        ("pi:1", MINUTE, 0, 0, None),
    ]
    read = window_rows([message(*bad[:3], good, *bad[3:], log_ms=1)], COUNTS)
    assert (read.minutes.tolist(), read.sources.tolist()) == ([MINUTE], [SOURCES - 1])
    assert read.ahead.tolist() == [True]
    keys = read.keys(StringInterner())
    assert minute_of(keys).tolist() == [MINUTE]
    assert source_of(keys).tolist() == [SOURCES - 1]
    assert (keys >> SHIFTS["parts"]).tolist() == [0]


def test_a_fast_clock_does_not_tell_the_time() -> None:
    told = message(("a", MINUTE, 0, 0, 1), ("a", MINUTE + 9, 0, 0, 1), log_ms=MINUTE * MINUTE_MS)
    assert window_rows([told], COUNTS).ahead.tolist() == [False, True]
