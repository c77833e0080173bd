"""What a stage sends is cut to what its topics take, or put aside."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from schemas import columnar
from streams.kafka.letters import error_of
from streams.runtime.in_memory import MemoryContext, MemoryLog
from topology.graph import build_graph, dead_letter_name
from topology.model import ArrowTopic
from topology.settings import Settings
from topology.topics.engagement import (
    ENGAGEMENT_HISTORY,
    ENGAGEMENT_TOTALS,
    ENGAGEMENT_WINDOWS,
    LISTENING_SESSIONS,
    ROLLING_WINDOWS,
)

GRAPH = build_graph(2)
TOTALS = columnar.columns(str(ENGAGEMENT_TOTALS.schema))


def context_of(stage: str, tmp_path: Path) -> MemoryContext:
    return MemoryContext(MemoryLog(GRAPH), GRAPH.stages[stage], Settings(podstream_home=tmp_path))


def rows_of(topic: ArrowTopic, rows: int, **columns: Any) -> pl.DataFrame:
    """Rows with ids of 600 characters that no compression makes short."""
    random = Random(0)
    ids = [random.randbytes(300).hex() for _ in range(rows)]

    def column(dtype: pl.DataType) -> pl.Series:
        if isinstance(dtype, pl.Enum):
            return pl.Series(dtype.categories.head(1).to_list() * rows, dtype=dtype)
        return pl.Series(ids if dtype == pl.String else [0] * rows).cast(dtype)

    schema = columnar.columns(str(topic.schema))
    values = {name: column(dtype) for name, dtype in schema.items()}
    return pl.DataFrame({**values, **columns}).cast(schema)


def test_rows_that_are_too_many_travel_in_several_messages_in_their_order(tmp_path: Path) -> None:
    context = context_of("track_engagement", tmp_path)
    rows = rows_of(ENGAGEMENT_WINDOWS, 60_000, offset=range(60_000))
    headers = {"closed": b"{}"}
    asyncio.run(context.send(ENGAGEMENT_WINDOWS, rows, partition=1, headers=headers))
    sent = context.log.records(ENGAGEMENT_WINDOWS.name)
    assert len(sent) > 2
    assert {message.partition for message in sent} == {1}
    assert [bool(message.headers) for message in sent] == [False] * (len(sent) - 1) + [True]
    assert max(len(message.value or b"") for message in sent) < ENGAGEMENT_WINDOWS.max_message_bytes
    assert pl.concat(context.log.decoded(ENGAGEMENT_WINDOWS.name)).equals(rows)


def test_so_do_totals_of_many_minutes(tmp_path: Path) -> None:
    context = context_of("track_engagement", tmp_path)
    rows = pl.DataFrame(
        np.random.default_rng(0).integers(0, 2**31, (1_000_000, len(TOTALS))), schema=list(TOTALS)
    ).cast(TOTALS)
    asyncio.run(context.send(ENGAGEMENT_TOTALS, rows, partition=1))
    sent = context.log.decoded(ENGAGEMENT_TOTALS.name)
    assert len(sent) > 1
    assert pl.concat(sent).equals(rows)


@pytest.mark.parametrize(
    ("topic", "stage", "column"),
    [
        (ENGAGEMENT_HISTORY, "track_engagement", "bucket"),
        (LISTENING_SESSIONS, "track_listening", "offset"),
    ],
)
def test_rows_that_belong_together_stay_together(
    topic: ArrowTopic, stage: str, column: str, tmp_path: Path
) -> None:
    context = context_of(stage, tmp_path)
    groups = pl.Series([min(row // 7_000, 6) for row in range(60_000)])
    rows = rows_of(
        topic, 60_000, **{column: groups.cast(columnar.columns(str(topic.schema))[column])}
    )
    asyncio.run(context.send(topic, rows, partition=0))
    sent = context.log.decoded(topic.name)
    assert len(sent) > 2
    assert sum(frame[column].n_unique() for frame in sent) == 7
    assert pl.concat(sent).equals(rows)


def test_rows_that_cannot_be_cut_are_put_aside_and_the_next_ones_arrive(tmp_path: Path) -> None:
    context = context_of("track_engagement", tmp_path)
    for count in (60_000, 5):
        rows = rows_of(ROLLING_WINDOWS, count)
        asyncio.run(context.send(ROLLING_WINDOWS, rows, partition=0))
    assert [frame.height for frame in context.log.decoded(ROLLING_WINDOWS.name)] == [5]
    (dead,) = context.log.records(dead_letter_name(ROLLING_WINDOWS.name))
    assert error_of(dead.headers)["class.name"] == "RecordTooLargeError"
    assert "takes 16,777,216" in error_of(dead.headers)["exception.message"]


def test_columns_whose_values_stay_together_are_declared() -> None:
    for topic in GRAPH.topics.values():
        if isinstance(topic, ArrowTopic) and topic.together is not None:
            assert topic.divisible
            assert topic.together in columnar.columns(str(topic.schema))
