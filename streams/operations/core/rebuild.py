"""The live tables folded anew from the log, and compared with the live ones while events flow.

The tables never stand still, so the two sides are compared at equal offsets, not at equal times.
Every live row says up to which source offset it has counted. The rebuild has each row as it was at
the baseline, the last offset of each source partition that the live tables are known to have
counted, and as it is at the furthest offset that any live row has reached: a live row must be one
of the two. One that has got past the baseline, and is neither, was changing while it was read, and
is left out: what then differs is wrong, not late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from schemas import columnar
from schemas.metrics import LISTENING_METRICS, WINDOW_METRICS
from streams.engagement.core.engagement import Engagement
from streams.engagement.core.listening import added_by
from streams.engagement.core.windows import minutes_of, window_rows
from streams.events.core.batching import Chunk, PartitionBatcher
from streams.events.core.event_rows import event_rows
from streams.operations.core.digest import Difference, combined, differences, digest

WINDOW_KEY = ("episode_id", "bucket")
PART_KEY = (*WINDOW_KEY, "source_partition")
DAILY_KEY = ("user_id", "episode_id", "day")

_EVENTS = pl.DataFrame(schema=columnar.columns("user_event"))
_PARTS = pl.DataFrame(schema=columnar.columns("engagement_window"))
_DAILY = pl.DataFrame(schema=columnar.columns("user_episode_daily"))
_PENDING_ROWS = 500_000


def count_daily(events: pl.DataFrame) -> pl.DataFrame:
    """What these events add per listener, episode and day: DAILY_KEY, sums, first and last time."""
    rows = added_by(events, applied=-1)
    return _daily_columns(_DAILY if rows is None else rows)


def _daily_columns(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(*DAILY_KEY, *LISTENING_METRICS, "first_at", "last_at")


def add_daily(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Daily amounts added up, however they were cut."""
    return (
        pl.concat(_daily_columns(frame) for frame in frames)
        .group_by(DAILY_KEY)
        .agg(
            *(pl.col(name).sum() for name in LISTENING_METRICS),
            pl.col("first_at").min(),
            pl.col("last_at").max(),
        )
    )


def windows(parts: pl.DataFrame) -> pl.DataFrame:
    """Rows by WINDOW_KEY of window rows by PART_KEY: source partitions add up."""
    return parts.group_by(WINDOW_KEY).agg(pl.col(name).sum() for name in WINDOW_METRICS)


def without(rows: pl.DataFrame, moving: pl.DataFrame) -> pl.DataFrame:
    """The rows whose WINDOW_KEY is not among those of ``moving``."""
    return rows.join(moving, on=WINDOW_KEY, how="anti")


class Sum:
    """Frames added up as they come; ``zero`` is the sum of none.

    ``add`` gives the sum of several frames in their own columns, so that sums add up as well.
    """

    def __init__(self, add: Callable[[Sequence[pl.DataFrame]], pl.DataFrame], zero: pl.DataFrame):
        self._add = add
        self._total = zero
        self._pending: list[pl.DataFrame] = []

    def put(self, frame: pl.DataFrame) -> None:
        """Add a frame; it is added up at once only where many rows wait."""
        self._pending.append(frame)
        # Grouping costs by the row: wait until as many are pending as there are in the total.
        pending = sum(frame.height for frame in self._pending)
        if pending > max(_PENDING_ROWS, self._total.height):
            self.total()

    def total(self) -> pl.DataFrame:
        """All frames so far, added up."""
        if self._pending:
            self._total = self._add([self._total, *self._pending])
            self._pending = []
        return self._total


def daily_sum() -> Sum:
    """A sum of daily amounts by DAILY_KEY; columns may come in any order."""
    return Sum(add_daily, add_daily([_DAILY]))


def newest_sum() -> Sum:
    """A sum of window rows, put in the order of the log: of each PART_KEY the newest row."""
    return Sum(newest_parts, _PARTS)


@dataclass
class Replay:
    """One source partition of `user-events`, folded anew as its messages are fed."""

    batcher: PartitionBatcher
    state: Engagement
    baseline: int
    """Last source offset that the live tables are known to have counted."""
    until: int
    """Last offset that any live row has counted; what is behind it is of no interest."""
    events: int = 0
    refused: int = 0
    repeats: int = 0
    moved: int = 0
    """Events handed over to the partition of their listener, where they count."""
    parts: Sum = field(default_factory=newest_sum)
    later_parts: Sum = field(default_factory=newest_sum)
    """Window rows as they were at the baseline, and those that have changed after it."""
    daily: Sum = field(default_factory=daily_sum)
    later: list[pl.DataFrame] = field(default_factory=list)

    def feed(self, chunk: Chunk) -> None:
        """Fold the messages that follow those fed before, any number of them."""
        for piece in chunk.pieces():
            made = self.batcher.batch(piece)
            self.refused += len(made.refused)
            self.repeats += made.repeats
            self.moved += len(made.moves)
            counted = made.events.filter(pl.col("offset") <= self.until).cast(_EVENTS.schema)
            self.events += counted.height
            sure = counted.filter(pl.col("offset") <= self.baseline)
            self.parts.put(self._count(sure))
            self.daily.put(count_daily(sure))
            self.later.append(counted.filter(pl.col("offset") > self.baseline))
            self.later_parts.put(self._count(self.later[-1]))

    def _count(self, events: pl.DataFrame) -> pl.DataFrame:
        """The window rows that these events change."""
        if events.is_empty():
            return _PARTS
        rows = event_rows([events], self.state.applied)
        self.state.apply(rows)
        slots = self.state.minutes.changed()
        changed = window_rows([minutes_of(self.state, self.batcher.partition, slots)])
        self.state.forget_changes()
        if self.state.close_minutes().size:
            self.state.drop_days()
            self.state.drop_old()
        return changed


@dataclass(frozen=True)
class Rebuilt:
    """What the replays of all partitions give: the tables at the baseline, and what came after it.

    ``baselines`` by source partition; ``parts`` are the window rows at the baseline, ``newest``
    those at the end; ``later`` are the events after the baseline.
    """

    baselines: Mapping[int, int]
    parts: pl.DataFrame
    newest: pl.DataFrame
    daily: pl.DataFrame
    later: pl.DataFrame

    @staticmethod
    def of(replays: Iterable[Replay]) -> Rebuilt:
        """The replays' tables added up, once all of them have been fed to their end."""
        replays = list(replays)
        return Rebuilt(
            baselines={replay.batcher.partition: replay.baseline for replay in replays},
            parts=pl.concat([_PARTS, *(r.parts.total() for r in replays)]),
            newest=newest_parts(
                [_PARTS, *(s.total() for r in replays for s in (r.parts, r.later_parts))]
            ),
            daily=add_daily([_DAILY, *(r.daily.total() for r in replays)]),
            later=pl.concat([_EVENTS, *(frame for r in replays for frame in r.later)]),
        )

    def parts_at(self, live: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Window parts, each as the ``live`` row of its key (PART_KEY, offset) should be.

        Keys that ``live`` lacks are as at the baseline: had the live tables all they should, it
        would have them. The second frame has the windows (WINDOW_KEY) that were changing, to be
        left out on both sides.
        """
        baseline = pl.col("source_partition").replace_strict(
            self.baselines, default=-1, return_dtype=pl.Int64
        )
        reached = live.select(*PART_KEY, reached=pl.col("offset"))
        past = reached.filter(pl.col("reached") > baseline)
        newest = self.newest.join(past, on=PART_KEY, how="inner")
        is_newest = pl.col("offset") == pl.col("reached")
        advanced = newest.filter(is_newest).select(self.newest.columns)
        moving = past.join(advanced, on=PART_KEY, how="anti").select(WINDOW_KEY).unique()
        at_baseline = self.parts.join(past, on=PART_KEY, how="anti")
        return without(pl.concat([at_baseline, advanced]), moving), moving

    def daily_at(self, reached: Mapping[int, int]) -> pl.DataFrame:
        """Daily amounts, each source partition counted up to ``reached`` or the baseline."""
        ends = pl.DataFrame(
            {"partition": list(reached), "reached": list(reached.values())},
            schema={"partition": pl.Int32, "reached": pl.Int64},
        )
        late = (
            self.later.join(ends, on="partition", how="inner")
            .filter(pl.col("offset") <= pl.col("reached"))
            .select(self.later.columns)
        )
        return add_daily([self.daily, count_daily(late)])


class LiveDaily:
    """`user-episode-daily` read in the order of each partition: repeats dropped, amounts summed.

    A repeat is a whole message whose last_offset was applied before.
    """

    def __init__(self) -> None:
        self.reached: dict[int, int] = {}
        self._sum = daily_sum()

    def apply(self, rows: pl.DataFrame) -> None:
        """The rows of one message."""
        for (partition,), group in rows.group_by("source_partition", maintain_order=True):
            last = self.reached.get(partition, -1)
            fresh = group.filter(pl.col("last_offset") > last)
            if fresh.height:
                self.reached[partition] = fresh["last_offset"].max()  # type: ignore[assignment]
                self._sum.put(_daily_columns(fresh))

    def rows(self) -> pl.DataFrame:
        """DAILY_KEY, sums, first and last time."""
        return self._sum.total()


def newest_parts(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Of each PART_KEY the row with the highest offset; of equal ones the last."""
    return (
        pl.concat(frames)
        .sort("offset", maintain_order=True)
        .unique(PART_KEY, keep="last", maintain_order=True)
    )


@dataclass(frozen=True)
class Comparison:
    """One table on both sides."""

    table: str
    rebuilt_digest: str
    live_digest: str
    rows: int
    differences: list[Difference]

    @property
    def agrees(self) -> bool:
        """Whether both sides hold the same rows."""
        return self.rebuilt_digest == self.live_digest


def compare(
    table: str, rebuilt: pl.DataFrame, live: pl.DataFrame, key: Sequence[str], limit: int = 10
) -> Comparison:
    """Digests of both sides; a sample of what differs if they do."""
    ours, theirs = digest(rebuilt), digest(live)
    sample = differences(rebuilt, live, key, limit) if ours != theirs else []
    return Comparison(table, ours, theirs, rebuilt.height, sample)


def digest_of(comparisons: Sequence[Comparison]) -> str:
    """One digest of the rebuilt side of all tables."""
    return combined(comparison.rebuilt_digest for comparison in comparisons)


def document_parts(documents: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """How far each document of `engagement_windows` has counted each source partition.

    PART_KEY and offset: what `Rebuilt.parts_at` takes.
    """
    rows = [
        (document["episode_id"], document["bucket"], int(partition), part["offset"])
        for document in documents
        for partition, part in document.get("parts", {}).items()
    ]
    schema = {name: _PARTS.schema[name] for name in (*PART_KEY, "offset")}
    return pl.DataFrame(rows, schema=schema, orient="row")


def document_windows(documents: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """What the documents of `engagement_windows` show: WINDOW_KEY and counts."""
    rows = [
        tuple(document[name] for name in (*WINDOW_KEY, *WINDOW_METRICS)) for document in documents
    ]
    schema = {name: _PARTS.schema[name] for name in (*WINDOW_KEY, *WINDOW_METRICS)}
    return pl.DataFrame(rows, schema=schema, orient="row")
