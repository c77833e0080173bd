"""From the records of each fact topic to the rows of its Delta table. No I/O, no Spark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa

from topology.topics.analysis import EPISODE_ANALYSIS, EPISODE_DUPLICATES
from topology.topics.engagement import (
    AUDIENCE_DAYS,
    ENGAGEMENT_HISTORY,
    EPISODE_DAYS,
    EPISODE_RETENTION,
    LISTENING_SESSIONS,
    USER_EPISODE_DAILY,
)
from topology.topics.events import USER_EVENT_BATCHES
from topology.topics.ingest import EPISODE_METADATA
from topology.topics.recommendation import MODEL_METRICS, RECOMMENDATIONS
from topology.topics.similarity import EPISODE_SUBJECTS, SUBJECTS
from topology.topics.transcripts import EPISODE_TRANSCRIPTS


@dataclass(frozen=True, slots=True)
class Decoded:
    """One message: source partition, offset, and content (Avro: a dict; Arrow: a DataFrame)."""

    partition: int
    offset: int
    content: Any


Mode = Literal["append", "upsert", "insert", "fold"]
Pace = Literal["live", "settled"]

LISTENER = "user_id"
"""The column that names a listener."""


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """The columns that say from which events of its listener a row was made.

    ``partition`` of `user-events`, and the last ``offset`` of it. ``time`` is the column that tells
    of rows which an older release wrote, without these two.
    """

    partition: str
    offset: str
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """How a topic becomes a table.

    ``mode``: ``append`` adds the rows, ``upsert`` keeps the newest row of each key, ``insert`` the
    first one, ``fold`` adds amounts up by key. ``rows`` gives the table's columns, by name, in any
    order. ``source`` names the pair of columns (partition, offset) that a repeat is recognised by:
    rows at or below an offset that the table holds already are repeats. A time that ascends within
    a source partition serves as an offset too. Without it, repeats are harmless. ``pace`` is
    ``settled`` for facts that nothing can change any more: they come minutes or hours late, so they
    are written less often. ``keyed_by`` is set for a table of how things are now: the column that
    holds a message's key; a tombstone deletes its row. In the other tables history stays.
    ``made_from`` is set for a table that names listeners: by it rows of forgotten ones go.
    """

    table: str
    mode: Mode
    rows: Callable[[Sequence[Decoded]], list[dict[str, Any]] | pl.DataFrame]
    source: tuple[str, str] | None = None
    pace: Pace = "live"
    keyed_by: str | None = None
    made_from: MadeFrom | None = None


def record_rows(messages: Sequence[Decoded]) -> list[dict[str, Any]]:
    """Records as they are: their fields are the table's columns."""
    return [message.content for message in messages]


def transcript_rows(messages: Sequence[Decoded]) -> list[dict[str, Any]]:
    """Transcripts, with how many words each has."""
    return [{**m.content, "words": len(m.content["text"].split())} for m in messages]


def recommendation_rows(messages: Sequence[Decoded]) -> list[dict[str, Any]]:
    """One row a list; the parts of a score are columns of the item.

    The record's own position is in `user-events`, that of the message in `recommendations`.
    """
    return [
        {
            **message.content,
            "applied_partition": message.content["source_partition"],
            "applied_offset": message.content["offset"],
            "items": [{**item, **item["parts"]} for item in message.content["items"]],
            "source_partition": message.partition,
            "source_offset": message.offset,
        }
        for message in messages
    ]


def metric_rows(messages: Sequence[Decoded]) -> list[dict[str, Any]]:
    """Metrics with the message that they came in, by which a repeat is known."""
    return [
        {**message.content, "source_partition": message.partition, "source_offset": message.offset}
        for message in messages
    ]


def _together(messages: Sequence[Decoded]) -> pl.DataFrame:
    frames: list[pl.DataFrame] = [message.content for message in messages]
    return pl.concat(frames)


def event_rows(messages: Sequence[Decoded]) -> pl.DataFrame:
    """Events with their UTC date; the source position is the one in `user-events`."""
    events = _together(messages)
    return events.rename({"partition": "source_partition", "offset": "source_offset"}).with_columns(
        pl.col("kind").cast(pl.String), event_date=pl.col("occurred_at").dt.date()
    )


def daily_rows(messages: Sequence[Decoded]) -> pl.DataFrame:
    """What each input batch added; `applied_offset` is the last source offset of the batch.

    The share of the episode is that of a whole day, which a batch does not know.
    """
    amounts = _together(messages)
    return amounts.rename({"last_offset": "applied_offset"}).with_columns(
        share=pl.lit(None, pl.Float64)
    )


def minute_rows(messages: Sequence[Decoded]) -> pl.DataFrame:
    """Minutes of engagement with their UTC date."""
    minutes = _together(messages)
    return minutes.with_columns(event_date=pl.col("bucket").dt.date())


def final_rows(messages: Sequence[Decoded]) -> pl.DataFrame:
    """Rows of days that are over; those of the others are only how far they have got."""
    return _together(messages).filter("final")


def audience_rows(messages: Sequence[Decoded]) -> pl.DataFrame:
    """Audiences of a day; the kind of scope as text, which Delta has no enum for."""
    return _together(messages).with_columns(pl.col("kind").cast(pl.String))


def session_rows(messages: Sequence[Decoded]) -> pl.DataFrame:
    """Sessions with the UTC date of their start; `closed_offset` is the source offset that ended
    each."""
    sessions = _together(messages)
    return sessions.rename({"offset": "closed_offset"}).with_columns(
        event_date=pl.col("started_at").dt.date()
    )


FACTS: dict[str, Facts] = {
    EPISODE_METADATA.name: Facts("episodes", "upsert", record_rows),
    EPISODE_TRANSCRIPTS.name: Facts("transcripts", "upsert", transcript_rows),
    EPISODE_ANALYSIS.name: Facts("episode_analysis", "upsert", record_rows),
    EPISODE_DUPLICATES.name: Facts(
        "episode_duplicates", "upsert", record_rows, keyed_by="episode_id"
    ),
    EPISODE_SUBJECTS.name: Facts("episode_topics", "upsert", record_rows, keyed_by="episode_id"),
    SUBJECTS.name: Facts("topics", "upsert", record_rows, keyed_by="topic_id"),
    USER_EVENT_BATCHES.name: Facts(
        "user_events",
        "append",
        event_rows,
        ("source_partition", "source_offset"),
        made_from=MadeFrom("source_partition", "source_offset"),
    ),
    USER_EPISODE_DAILY.name: Facts(
        "user_vs_episode_daily",
        "fold",
        daily_rows,
        ("source_partition", "applied_offset"),
        made_from=MadeFrom("source_partition", "applied_offset"),
    ),
    ENGAGEMENT_HISTORY.name: Facts(
        "engagement_minutes", "append", minute_rows, ("source_partition", "bucket"), pace="settled"
    ),
    EPISODE_DAYS.name: Facts("episode_daily", "insert", final_rows, pace="settled"),
    EPISODE_RETENTION.name: Facts("episode_retention", "insert", final_rows, pace="settled"),
    AUDIENCE_DAYS.name: Facts("audience_daily", "insert", audience_rows, pace="settled"),
    LISTENING_SESSIONS.name: Facts(
        "listening_sessions",
        "append",
        session_rows,
        ("source_partition", "closed_offset"),
        pace="settled",
        made_from=MadeFrom("source_partition", "closed_offset"),
    ),
    RECOMMENDATIONS.name: Facts(
        "recommendations_history",
        "append",
        recommendation_rows,
        ("source_partition", "source_offset"),
        made_from=MadeFrom("applied_partition", "applied_offset", "updated_at"),
    ),
    MODEL_METRICS.name: Facts(
        "model_metrics", "append", metric_rows, ("source_partition", "source_offset")
    ),
}
"""Every fact topic and its table. The stage's edges in the topology must say the same."""


def drop_repeats(rows: pa.Table, source: tuple[str, str], applied: dict[int, int]) -> pa.Table:
    """The rows above the applied offset of their partition; ``applied`` is moved on.

    ``rows`` come from one message, and messages in the order of the log. Repeats are whole
    messages, or messages cut anew, so one offset a partition tells new rows from repeats.
    """
    partitions, offsets = rows[source[0]].to_numpy(), positions(rows[source[1]]).to_numpy()
    fresh = np.zeros(len(rows), dtype=bool)
    for partition in np.unique(partitions).tolist():
        here = partitions == partition
        last = applied.get(partition, -1)
        fresh |= here & (offsets > last)
        applied[partition] = max(last, int(offsets[here].max()))
    return rows if fresh.all() else rows.filter(pa.array(fresh))


def positions(offsets: pa.ChunkedArray) -> pa.ChunkedArray:
    """Offsets as int64; a time that serves as one is milliseconds since 1970."""
    if pa.types.is_timestamp(offsets.type):
        return offsets.cast(pa.timestamp("ms", offsets.type.tz)).cast(pa.int64())
    return offsets
