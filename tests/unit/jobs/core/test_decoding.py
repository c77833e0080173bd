"""Messages become rows with their place: records, frames, and what deletes a row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pyarrow as pa

from jobs.core.decoding import decode_batches, output_schema
from jobs.core.forgetting import UpTo
from topology.topics.engagement import ENGAGEMENT_HISTORY, EPISODE_DAYS
from topology.topics.recommendation import MODEL_METRICS, RECOMMENDATIONS
from topology.topics.similarity import SUBJECTS

SUBJECT_ROWS = {"topics": pa.schema([("topic_id", pa.string()), ("label", pa.string())])}
DAY_ROWS = {"episode_daily": pa.schema([("episode_id", pa.string()), ("day", pa.date32())])}
MINUTE_ROWS = {
    "engagement_minutes": pa.schema(
        [
            ("episode_id", pa.string()),
            ("bucket", pa.timestamp("us", "UTC")),
            ("event_date", pa.date32()),
        ]
    )
}
FIRST, SECOND = (datetime(2026, 1, 31, 23, minute, tzinfo=UTC) for minute in (58, 59))


def rows_of(
    topic: str,
    contents: list[Any],
    tables: Mapping[str, pa.Schema],
    applied: Mapping[str, Mapping[int, int]] | None = None,
    forgotten: UpTo | None = None,
) -> list[dict[str, Any]]:
    """Rows of one batch of messages; None stands for a tombstone, whose key is ``k`` and its
    offset."""
    batch = pa.RecordBatch.from_pylist(
        [
            {
                "topic": topic,
                "partition": 1,
                "offset": offset,
                "key": f"k{offset}".encode(),
                "value": None if content is None else str(offset).encode(),
            }
            for offset, content in enumerate(contents)
        ]
    )

    def decode(_: str, value: bytes | None) -> Any:
        return contents[int(value or b"")]

    found = decode_batches([batch], decode, tables, applied or {}, forgotten or {})
    rows: list[dict[str, Any]] = pa.Table.from_batches(found, output_schema(tables)).to_pylist()
    return rows


def test_a_tombstone_deletes_the_row_of_its_key_where_a_table_tells_how_things_are_now() -> None:
    subject = {"topic_id": "t", "label": "bread"}
    tombstone, record = rows_of(SUBJECTS.name, [subject, None], SUBJECT_ROWS)[::-1]
    assert (tombstone["deleted"], tombstone["offset"]) == (True, 1)
    assert tombstone["topics"] == {"topic_id": "k1", "label": None}
    assert (record["deleted"], record["offset"], record["topics"]) == (None, 0, subject)
    assert record["source_offset"] is None, "the newest row of a key counts, repeated or not"


def test_a_tombstone_leaves_history_as_it_was() -> None:
    metrics = {"model_metrics": pa.schema([("model", pa.string())])}
    assert rows_of(MODEL_METRICS.name, [None], metrics) == []


def test_every_row_of_a_frame_has_the_place_of_its_message() -> None:
    frames = [
        pl.DataFrame(
            {"episode_id": ["a", "b"], "day": [date(2026, 1, day)] * 2, "final": [True, day > 1]}
        )
        for day in (1, 2)
    ]
    rows = rows_of(EPISODE_DAYS.name, frames, DAY_ROWS)
    assert [(row["partition"], row["offset"]) for row in rows] == [(1, 0), (1, 1), (1, 1)]
    assert [row["episode_daily"]["episode_id"] for row in rows] == ["a", "a", "b"]


def test_a_message_of_which_nothing_is_kept_gives_no_row() -> None:
    unfinished = pl.DataFrame({"episode_id": ["a"], "day": [date(2026, 1, 1)], "final": [False]})
    assert rows_of(EPISODE_DAYS.name, [unfinished], DAY_ROWS) == []


def test_a_time_serves_as_an_offset() -> None:
    """Minutes ascend within a source partition; a column that the table lacks is read all the
    same."""
    minutes = pl.DataFrame(
        {"episode_id": ["a", "b"], "bucket": [FIRST, SECOND], "source_partition": [3, 3]}
    )
    applied = {"engagement_minutes": {3: int(FIRST.timestamp() * 1000)}}
    (row,) = rows_of(ENGAGEMENT_HISTORY.name, [minutes], MINUTE_ROWS, applied)
    assert row["engagement_minutes"] == {
        "episode_id": "b",
        "bucket": SECOND,
        "event_date": SECOND.date(),
    }
    assert (row["source_partition"], row["source_offset"]) == (3, SECOND.timestamp() * 1000)


def test_what_was_done_before_a_listener_was_forgotten_gives_no_row() -> None:
    kept = ["user_id", "applied_partition", "applied_offset", "source_partition", "source_offset"]
    kinds = [pa.string(), pa.int32(), pa.int64(), pa.int32(), pa.int64()]
    tables = {"recommendations_history": pa.schema(list(zip(kept, kinds, strict=True)))}
    lists = [
        {"user_id": user, "source_partition": partition, "offset": offset, "items": []}
        for user, partition, offset in (
            ("ada", 1, 9), ("ada", 1, 10), ("ada", 0, 9), ("dan", 1, 9), ("adam", 1, 9)
        )
    ]  # fmt: skip
    rows = rows_of(RECOMMENDATIONS.name, lists, tables, forgotten={("ada", 1): 9, ("eve", 1): 99})
    found = [tuple(row["recommendations_history"].values()) for row in rows]
    assert found == [
        ("ada", 1, 10, 1, 1),
        ("ada", 0, 9, 1, 2),
        ("dan", 1, 9, 1, 3),
        ("adam", 1, 9, 1, 4),
    ]
