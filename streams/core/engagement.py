"""Counts per episode and minute, folded over batches of events.

The state of a source partition is one `Minute` for each UTC minute in which anything happened. It
knows the last source offset applied to it, so rows may come again, in whatever cut: they are
skipped. Rows of one partition must arrive in the order of their offsets otherwise.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO

import polars as pl
from polars.interchange import CompatLevel

COUNTS = ("impressions", "clicks", "plays", "completes", "heard_ms")
"""What is counted: events of four kinds, and the milliseconds heard in events of any kind."""

COUNT_EXPRESSIONS = (
    *(
        (pl.col("kind") == kind).sum().cast(pl.Int64).alias(name)
        for kind, name in (
            ("impression", "impressions"),
            ("click", "clicks"),
            ("play", "plays"),
            ("complete", "completes"),
        )
    ),
    pl.col("heard_ms").sum(),
)
"""The counts of a group of event rows."""

MINUTE_MS = 60_000

_ROWS = pl.Schema(
    {"episode_id": pl.String(), "offset": pl.Int64(), **dict.fromkeys(COUNTS, pl.Int64())}
)

Row = tuple[int, int, int, int, int, int]
"""The last offset applied, then the counts."""

Touched = tuple[int, str]
"""A minute and an episode."""


@dataclass(frozen=True)
class Minute:
    """What happened to each episode in one minute, as far as one source partition tells."""

    rows: Mapping[str, Row] = field(default_factory=dict)

    @property
    def applied(self) -> int:
        """The last source offset applied; -1 before the first."""
        return max((row[0] for row in self.rows.values()), default=-1)

    def to_bytes(self) -> bytes:
        """An Arrow IPC stream: `episode_id`, `offset` and the counts."""
        columns = [self.rows.keys(), *zip(*self.rows.values(), strict=True)]
        frame = pl.DataFrame(
            {name: list(column) for name, column in zip(_ROWS, columns, strict=True)}, schema=_ROWS
        )
        buffer = BytesIO()
        frame.write_ipc_stream(buffer, compat_level=CompatLevel.oldest())
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, value: bytes) -> Minute:
        episode_ids, *columns = (
            pl.read_ipc_stream(BytesIO(value)).select(_ROWS.names()).to_dict().values()
        )
        rows = zip(*(column.to_list() for column in columns), strict=True)
        return cls(dict(zip(episode_ids.to_list(), rows, strict=True)))


def with_bucket(events: pl.DataFrame) -> pl.DataFrame:
    """Event rows with the column `bucket`: the start of their UTC minute, in milliseconds."""
    occurred = pl.col("occurred_at").dt.epoch("ms")
    return events.with_columns(bucket=occurred - occurred % MINUTE_MS)


def in_order(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Rows of one source partition as if they had come once each, ordered by offset."""
    events = frames[0] if len(frames) == 1 else pl.concat(frames)
    if events["offset"].is_sorted() and events["offset"].n_unique() == events.height:
        return events
    return events.unique("offset", keep="first").sort("offset")


def fold(
    minutes: Mapping[int, Minute], events: pl.DataFrame
) -> tuple[dict[int, Minute], list[Touched]]:
    """The minutes that the events change, and everything they touch, applied already or not.

    ``events`` are rows of one source partition, as `in_order` and `with_bucket` give them;
    ``minutes`` is the state of at least every bucket among them that has any.
    """
    applied = {bucket: minute.applied for bucket, minute in minutes.items()}
    touched = events.select("bucket", "episode_id").unique(maintain_order=True).rows()
    new = events.filter(
        pl.col("offset")
        > pl.col("bucket").replace_strict(applied, default=-1, return_dtype=pl.Int64)
    )
    groups = new.group_by("bucket", "episode_id").agg(pl.col("offset").max(), *COUNT_EXPRESSIONS)
    changed: dict[int, dict[str, Row]] = {}
    for bucket, episode_id, offset, *added in groups.iter_rows():
        if bucket not in changed:
            changed[bucket] = dict(minutes[bucket].rows) if bucket in minutes else {}
        rows = changed[bucket]
        if (before := rows.get(episode_id)) is not None:
            added = [count + more for count, more in zip(before[1:], added, strict=True)]
        rows[episode_id] = (offset, *added)
    return {bucket: Minute(rows) for bucket, rows in changed.items()}, touched


def window_rows(
    minutes: Mapping[int, Minute], touched: Iterable[Touched], source_partition: int
) -> pl.DataFrame:
    """Rows of `engagement_window`: the whole value so far of everything touched."""
    rows = [
        (episode_id, bucket, source_partition, *minutes[bucket].rows[episode_id])
        for bucket, episode_id in touched
    ]
    names = ("episode_id", "bucket", "source_partition", "offset", *COUNTS)
    types = (pl.String, pl.Int64, pl.Int32, *[pl.Int64] * 6)
    frame = pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")
    return frame.cast({"bucket": pl.Datetime("ms", "UTC")})


@lru_cache(maxsize=1_000_000)
def _hash(episode_id: str) -> int:
    return zlib.crc32(episode_id.encode())


def by_target(rows: pl.DataFrame, partitions: int) -> dict[int, pl.DataFrame]:
    """Rows by the partition that their episode belongs to: crc32(episode_id) modulo partitions."""
    targets = [_hash(episode_id) % partitions for episode_id in rows["episode_id"].to_list()]
    groups = rows.with_columns(target=pl.Series(targets, dtype=pl.Int32)).partition_by(
        "target", as_dict=True, include_key=False
    )
    return {int(target): group for (target,), group in groups.items()}
