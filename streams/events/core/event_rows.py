"""Event rows as numpy arrays: what the live tables are folded of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from schemas import columnar
from streams.events.core.bots import is_bot
from streams.state.interner import Hashed, hashed, hashes_of

KINDS: list[str] = columnar.columns("user_event")["kind"].categories.to_list()  # type: ignore[attr-defined]
"""The kinds of events, by code."""

PLAY, SKIP = KINDS.index("play"), KINDS.index("skip")

READ = (
    "partition",
    "offset",
    "logged_at",
    "user_id",
    "episode_id",
    "kind",
    "occurred_at",
    "heard_ms",
    "position_ms",
    "user_agent",
    "duration_ms",
)
"""The columns of an event that the live tables look at."""

_FEW = 1_000
"""Rows that Python looks through sooner than polars gets started."""


@dataclass(frozen=True, slots=True)
class EventRows:
    """Events of one source partition in the order of their offsets, column by column."""

    offsets: np.ndarray
    """int64, ascending: the source offsets, in `user-events`."""
    times: np.ndarray
    """Event time, clamped to the log's append time: int64, milliseconds since 1970. Nobody hears in
    the future, so an event that is dated after its arrival in the log counts at its arrival."""
    kinds: np.ndarray
    """uint8, places in KINDS."""
    heard_ms: np.ndarray
    """int64: time heard since the listener's event before."""
    position_ms: np.ndarray
    """int64: the place in the episode that the player had reached."""
    duration_ms: np.ndarray
    """int64: the length of the episode; 0 where the player told none."""
    listening: np.ndarray
    """bool: a play, or something heard, by other than a known bot."""
    users: Hashed
    episodes: Hashed

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, mask: np.ndarray) -> EventRows:
        """The rows where ``mask``."""
        return self if mask.all() else self[mask]

    def __getitem__(self, chosen: np.ndarray | slice) -> EventRows:
        """The rows at these places."""
        return EventRows(
            offsets=self.offsets[chosen],
            times=self.times[chosen],
            kinds=self.kinds[chosen],
            heard_ms=self.heard_ms[chosen],
            position_ms=self.position_ms[chosen],
            duration_ms=self.duration_ms[chosen],
            listening=self.listening[chosen],
            users=self.users.take(chosen),
            episodes=self.episodes.take(chosen),
        )


def event_rows(frames: Sequence[pl.DataFrame], applied: int) -> EventRows:
    """The rows of batches of `user-event-batches`, decoded, of one source partition.

    Rows at or below the offset ``applied`` are left out, and repeats; the others are in the order
    of their offsets.
    """
    (rows,) = event_rows_each([(frames, applied)])
    return rows


def event_rows_each(partitions: Sequence[tuple[Sequence[pl.DataFrame], int]]) -> list[EventRows]:
    """What `event_rows` gives for each source partition: read in one go."""
    frames = [frame for some, _ in partitions for frame in some]
    if not frames:
        return []
    rows = _read(frames[0] if len(frames) == 1 else pl.concat(frames))
    bounds = np.cumsum([0, *(sum(frame.height for frame in some) for some, _ in partitions)])
    return [
        _fresh(rows[start:end], applied)
        for (start, end), (_, applied) in zip(pairwise(bounds.tolist()), partitions, strict=True)
    ]


def _read(events: pl.DataFrame) -> EventRows:
    # All at once: each expression of its own costs as much as hundreds of rows.
    columns = events.select_seq(*_COLUMNS)
    kinds, heard_ms = columns["kind"].to_numpy(), events["heard_ms"].to_numpy()
    return EventRows(
        offsets=events["offset"].to_numpy(),
        times=columns["time"].to_numpy(),
        kinds=kinds,
        heard_ms=heard_ms,
        position_ms=events["position_ms"].to_numpy(),
        duration_ms=columns["duration_ms"].to_numpy(),
        listening=((kinds == PLAY) | (heard_ms > 0)) & ~_bots(events["user_agent"]),
        users=hashed(events["user_id"], columns),
        episodes=hashed(events["episode_id"], columns),
    )


def _fresh(rows: EventRows, applied: int) -> EventRows:
    offsets = rows.offsets
    if not len(offsets) or (offsets[0] > applied and (offsets[1:] > offsets[:-1]).all()):
        return rows
    _, first = np.unique(offsets, return_index=True)
    return rows[first[offsets[first] > applied]]


_COLUMNS = (
    pl.min_horizontal("occurred_at", "logged_at").to_physical().alias("time"),
    pl.col("kind").to_physical(),
    pl.col("duration_ms").fill_null(0),
    *hashes_of("user_id"),
    *hashes_of("episode_id"),
)


def _bots(agents: pl.Series) -> np.ndarray:
    none = np.zeros(len(agents), bool)
    if agents.null_count() == len(agents):
        return none
    if len(agents) < _FEW:
        known = [agent is not None and is_bot(agent) for agent in agents.to_list()]
        return np.array(known, bool)
    bots = [agent for agent in agents.unique().to_list() if agent is not None and is_bot(agent)]
    return agents.is_in(bots).fill_null(False).to_numpy() if bots else none


def late(rows: EventRows, watermark: int, lateness_ms: int) -> tuple[np.ndarray, int]:
    """Which rows are late, and the watermark after them.

    The watermark is the newest counted time so far. A row is late if it lies more than
    ``lateness_ms`` behind the watermark before it: a function of the log alone.
    """
    newest = np.maximum.accumulate(np.concatenate(([watermark], rows.times)))
    return rows.times < newest[:-1] - lateness_ms, int(newest[-1])
