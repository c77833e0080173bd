"""When to try again what was not available: growing waits, and then never again.

What waits is kept per episode as 8 bytes, the time it is due, so that finding what is due needs
no decoding, and an Avro record that has this time as `due_at`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from schemas.codec import from_plain, to_plain
from streams.http.circuit import LONGEST_ASKED_S, jitter

LONGEST = 1.25
"""How long a host that may not be asked is waited for, in sums of all intervals: a day and a half
by default, a little longer than the tries of one that is asked take."""

_DUE = struct.Struct(">q")
NEVER_MS = 2**63 - 1
_SCHEMA = "transcript_retry"


@dataclass(frozen=True)
class TranscriptOutcome:
    """A `transcript` record; ``transient``: it failed by what may be over by ``until``, if known.

    ``asked`` is False where nobody was asked, because the host is not to be asked now.
    """

    record: dict[str, Any]
    transient: bool = False
    until: float | None = None
    asked: bool = True


def due_after(
    attempt: int, now: float, name: str, intervals_s: Sequence[float], until: float | None = None
) -> float | None:
    """When to make the attempt after the ``attempt``th (1 is the first), in Unix seconds.

    None after the last one. The wait begins now, or at ``until``, when who failed may be asked
    again, a day from now at most: others are to have their turn then. It is up to a fifth off, by
    the hash of ``name``, so that what failed together does not come back together.
    """
    if attempt > len(intervals_s):
        return None
    begins = min(max(now, until or 0.0), now + LONGEST_ASKED_S)
    return begins + intervals_s[attempt - 1] * jitter(name, attempt)


def next_try(
    outcome: TranscriptOutcome,
    before: int,
    first_at: float,
    now: float,
    name: str,
    intervals_s: Sequence[float],
) -> tuple[int, float | None]:
    """How many attempts there were now, and when to make the next one: None if never again.

    ``before`` is how many there were before, ``first_at`` the time of the first one. Who was not
    asked has not failed: it does not count, but ends ``LONGEST`` after the first one.
    """
    attempt = before + outcome.asked
    if not outcome.transient:
        return attempt, None
    if outcome.asked:
        return attempt, due_after(attempt, now, name, intervals_s, outcome.until)
    if now - first_at > LONGEST * sum(intervals_s):
        return attempt, None
    return attempt, due_after(1, now, name, intervals_s, outcome.until)


def retry_record(
    episode: Mapping[str, Any], attempt: int, due_at: float, first_at: float
) -> dict[str, Any]:
    """The `transcript_retry` of an episode, or of an earlier retry of it."""
    return {
        "episode_id": episode["episode_id"],
        "language": episode.get("language") or "",
        "transcripts": episode["transcripts"],
        "attempt": attempt,
        "due_at": datetime.fromtimestamp(due_at, UTC),
        "first_at": datetime.fromtimestamp(first_at, UTC),
    }


def first_at(record: Mapping[str, Any], now: float) -> float:
    """When what waits was first tried, in Unix seconds; ``now`` if it was not, or nobody knows."""
    at: datetime | None = record["first_at"]
    return now if at is None else at.timestamp()


def encode_entry(schema: str, record: Mapping[str, Any]) -> bytes:
    """A record of a schema with `due_at`; what has none is never due."""
    at = record["due_at"]
    due = _DUE.pack(NEVER_MS if at is None else int(at.timestamp() * 1000))
    return due + to_plain(schema, record)


def decode_entry(schema: str, value: bytes) -> dict[str, Any]:
    """The record in what `encode_entry` gave."""
    record: dict[str, Any] = from_plain(schema, value[_DUE.size :])
    return record


def encode_retry(record: Mapping[str, Any]) -> bytes:
    return encode_entry(_SCHEMA, record)


def decode_retry(value: bytes) -> dict[str, Any]:
    return decode_entry(_SCHEMA, value)


def due_ms(value: bytes) -> int:
    """When an encoded record is due, in Unix milliseconds; NEVER_MS if never."""
    due: int = _DUE.unpack_from(value)[0]
    return due
