"""Who hears an episode: new listeners, sessions, streams, engaged listeners.

A pair is a listener and an episode. Its rows are taken in the order of the log, thousands of
pairs at once: rows are sorted by pair, and running maxima and sums start anew at each pair's
first row. Nothing depends on how the rows were cut into batches, since a pair's row in the table
is all that its next row needs to know.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.units import DAY_MS, MINUTE_MS
from streams.engagement.core.sessions import SESSION_GAP_MS
from streams.state.arrays import starts
from streams.state.hash_table import ColumnarHashTable

FORGOTTEN_MS = DAY_MS
"""A listener who comes back to an episode after longer than this is new to it."""

STREAM_MS = MINUTE_MS
ENGAGED_MS = 20 * MINUTE_MS
ENGAGED_SHARE = (2, 5)
"""Heard in one session, at least: a stream; an engaged listener, or this share of the episode."""

_SEEN_BITS = 64

PAIR_COLUMNS = {
    "last": "i8",
    "session_ms": "i8",
    "engaged_minute": "i8",
    "seen": "u8",
    "engaged": "?",
}
"""``last``: newest time heard, ms. ``session_ms``: heard in the session, whether it is
``engaged``, and the newest ``engaged_minute`` of any. ``seen``: bit b is set if the pair was
heard in the minute of ``last`` less b, which is as far back as an event is let in."""


@dataclass(frozen=True, slots=True)
class ListeningFlags:
    """What each row did, as masks in the order of the rows."""

    new_listener: np.ndarray
    listener: np.ndarray
    """The first of the pair in its minute."""
    stream: np.ndarray
    engaged: np.ndarray


def hear(
    pairs: ColumnarHashTable,
    slots: np.ndarray,
    times: np.ndarray,
    heard: np.ndarray,
    length: np.ndarray,
) -> ListeningFlags:
    """Take listening rows into ``pairs``; all arrays are by row, in the order of the log.

    ``times`` in ms, ``heard`` and the episode's ``length`` (0: unknown) too.
    """
    order = np.argsort(slots, kind="stable")
    slots, times, heard, length = slots[order], times[order], heard[order], length[order]
    first = starts(slots)
    begin = np.flatnonzero(first)
    end = np.append(begin[1:], len(slots)) - 1
    mine = slots[begin]

    old_last = pairs["last"][mine]
    last = _running_max(times, first, begin, old_last)
    before = np.empty_like(last)
    before[1:] = last[:-1]
    before[begin] = old_last
    new_session = times > before + SESSION_GAP_MS

    # Sums of a session begin with what the pair has heard in it before, unless it is a new one.
    opening = first | new_session
    opens = np.flatnonzero(opening)
    session = np.cumsum(opening) - 1
    carried = np.zeros(len(slots), bool)
    carried[begin] = ~new_session[begin]
    taken_over = np.where(carried, pairs["session_ms"][slots], 0)[opens]
    total = np.cumsum(heard)
    after = total + (taken_over - total[opens] + heard[opens])[session]
    stream = (after >= STREAM_MS) & (after - heard < STREAM_MS)

    share, whole = ENGAGED_SHARE
    enough = (after >= ENGAGED_MS) | ((length > 0) & (after * whole >= length * share))
    times_enough = np.cumsum(enough)
    in_session = times_enough - (times_enough[opens] - enough[opens])[session]
    was_engaged = (carried & pairs["engaged"][slots])[opens][session]
    engaged = enough & (in_session == 1) & ~was_engaged

    minutes = times // MINUTE_MS
    listener = _first_in_minute(slots, minutes, first) & ~_seen(pairs, slots, minutes)

    pairs["last"][mine] = last[end]
    pairs["session_ms"][mine] = after[end]
    pairs["engaged"][mine] = was_engaged[end] | (in_session[end] > 0)
    engaged_minute = pairs["engaged_minute"]
    np.maximum.at(engaged_minute, slots[engaged], minutes[engaged])
    _see(pairs, slots, minutes, mine, old_last, last[end])
    pairs.touch(mine)
    new_listener = times > before + FORGOTTEN_MS
    return ListeningFlags(
        *(_unsorted(mask, order) for mask in (new_listener, listener, stream, engaged))
    )


def _running_max(
    values: np.ndarray, first: np.ndarray, begin: np.ndarray, initial: np.ndarray
) -> np.ndarray:
    """The maximum so far within each group of rows, each group's ``initial`` included.

    ``values`` are not negative. Raising each group above all before it lets one pass do.
    """
    raised = values.copy()
    raised[begin] = np.maximum(raised[begin], initial)
    step = (np.cumsum(first) - 1) * (int(raised.max()) + 1)
    highest: np.ndarray = np.maximum.accumulate(raised + step) - step
    return highest


def _first_in_minute(slots: np.ndarray, minutes: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Which rows are the first of their pair in their minute; rows are sorted by pair."""
    later = minutes[1:] != minutes[:-1]
    if (first[1:] | (minutes[1:] >= minutes[:-1])).all():
        return np.concatenate(([True], first[1:] | later))
    by_minute = np.lexsort((minutes, slots))
    slots, minutes = slots[by_minute], minutes[by_minute]
    found = np.empty(len(slots), bool)
    found[by_minute] = starts(slots) | starts(minutes)
    return found


def _seen(pairs: ColumnarHashTable, slots: np.ndarray, minutes: np.ndarray) -> np.ndarray:
    """Whether the pair was heard in that minute before these rows."""
    back = pairs["last"][slots] // MINUTE_MS - minutes
    known = (back >= 0) & (back < _SEEN_BITS)
    bits = pairs["seen"][slots] >> np.where(known, back, 0).astype(np.uint64)
    heard: np.ndarray = known & ((bits & np.uint64(1)) != 0)
    return heard


def _see(
    pairs: ColumnarHashTable,
    slots: np.ndarray,
    minutes: np.ndarray,
    mine: np.ndarray,
    old_last: np.ndarray,
    new_last: np.ndarray,
) -> None:
    seen = pairs["seen"]
    forward = new_last // MINUTE_MS - old_last // MINUTE_MS
    kept = forward < _SEEN_BITS
    seen[mine] = np.where(kept, seen[mine] << np.where(kept, forward, 0).astype(np.uint64), 0)
    back = pairs["last"][slots] // MINUTE_MS - minutes
    near = back < _SEEN_BITS
    np.bitwise_or.at(seen, slots[near], np.uint64(1) << back[near].astype(np.uint64))


def _unsorted(mask: np.ndarray, order: np.ndarray) -> np.ndarray:
    found = np.empty_like(mask)
    found[order] = mask
    return found
