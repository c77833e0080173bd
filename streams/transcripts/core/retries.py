"""How an attempt at a transcript ended, and whether and when another one is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from streams.http.retries import decode_entry, due_after, encode_entry

GIVE_UP_AFTER = 1.25
"""When a host that may not be asked is given up, in sums of all retry intervals: a day and a half
by default, a little later than one that is asked and fails each time."""

_SCHEMA = "transcript_retry"


@dataclass(frozen=True)
class TranscriptOutcome:
    """A `transcript` record; ``transient``: it failed by what may be over by ``until``, if known.

    ``until`` is in Unix seconds. ``asked`` is False where nobody was asked, because the host is
    not to be asked now.
    """

    record: dict[str, Any]
    transient: bool = False
    until: float | None = None
    asked: bool = True


def next_try(
    outcome: TranscriptOutcome,
    before: int,
    first_at: float,
    now: float,
    name: str,
    intervals_s: Sequence[float],
) -> tuple[int, float | None]:
    """How many attempts there were now, and when to make the next one: None if never again.

    ``before`` is how many there were before, ``first_at`` the time of the first one; times are
    Unix seconds. Who was not asked has not failed: it does not count, but ends `GIVE_UP_AFTER`
    the first one.
    """
    attempt = before + outcome.asked
    if not outcome.transient:
        return attempt, None
    if outcome.asked:
        return attempt, due_after(attempt, now, name, intervals_s, outcome.until)
    if now - first_at > GIVE_UP_AFTER * sum(intervals_s):
        return attempt, None
    return attempt, due_after(1, now, name, intervals_s, outcome.until)


def retry_record(
    episode: Mapping[str, Any], attempt: int, due_at: float, first_at: float
) -> dict[str, Any]:
    """The `transcript_retry` of an episode, or of an earlier retry of it; times in Unix seconds."""
    return {
        "episode_id": episode["episode_id"],
        "language": episode.get("language") or "",
        "transcripts": episode["transcripts"],
        "attempt": attempt,
        "due_at": datetime.fromtimestamp(due_at, UTC),
        "first_at": datetime.fromtimestamp(first_at, UTC),
    }


def first_tried_at(record: Mapping[str, Any], now: float) -> float:
    """When what waits was first tried, in Unix seconds; ``now`` if it was not, or nobody knows."""
    at: datetime | None = record["first_at"]
    return now if at is None else at.timestamp()


def encode_retry(record: Mapping[str, Any]) -> bytes:
    """A `transcript_retry` as an entry of the retry queue."""
    return encode_entry(_SCHEMA, record)


def decode_retry(value: bytes) -> dict[str, Any]:
    """The `transcript_retry` in an entry. Raises BadRecordError if there is none."""
    return decode_entry(_SCHEMA, value)
