"""When to try again what was not available: growing waits, and then never again.

What waits is kept per episode as 8 bytes, the time it is due, so that finding what is due needs
no decoding, and an Avro record that has this time as `due_at`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from schemas.codec import from_plain, to_plain
from streams.core.hosts import jitter

_DUE = struct.Struct(">q")
_NEVER = 2**63 - 1
_SCHEMA = "transcript_retry"


@dataclass(frozen=True)
class Outcome:
    """A `transcript` record; ``passing``: it failed by what may pass, by ``until`` if known."""

    record: dict[str, Any]
    passing: bool = False
    until: float | None = None


def due_after(
    attempt: int, now: float, name: str, intervals_s: Sequence[float], until: float | None = None
) -> float | None:
    """When to make the attempt after the ``attempt``th (1 is the first), in Unix seconds.

    None after the last one. The wait begins now, or at ``until``, when who failed may be asked
    again: others are to have their turn then. It is up to a fifth off, by the hash of ``name``, so
    that what failed together does not come back together.
    """
    if attempt > len(intervals_s):
        return None
    return max(now, until or 0.0) + intervals_s[attempt - 1] * jitter(name, attempt)


def retry_record(episode: Mapping[str, Any], attempt: int, due_at: float) -> dict[str, Any]:
    """The `transcript_retry` of an episode, or of an earlier retry of it."""
    return {
        "episode_id": episode["episode_id"],
        "language": episode.get("language") or "",
        "transcripts": episode["transcripts"],
        "attempt": attempt,
        "due_at": datetime.fromtimestamp(due_at, UTC),
    }


def encode_waiting(schema: str, record: Mapping[str, Any]) -> bytes:
    """A record of a schema with `due_at`; what has none is never due."""
    at = record["due_at"]
    due = _DUE.pack(_NEVER if at is None else int(at.timestamp() * 1000))
    return due + to_plain(schema, record)


def decode_waiting(schema: str, value: bytes) -> dict[str, Any]:
    """The record in what `encode_waiting` gave."""
    record: dict[str, Any] = from_plain(schema, value[_DUE.size :])
    return record


def encode_retry(record: Mapping[str, Any]) -> bytes:
    return encode_waiting(_SCHEMA, record)


def decode_retry(value: bytes) -> dict[str, Any]:
    return decode_waiting(_SCHEMA, value)


def due_entries(
    entries: Iterable[tuple[bytes, bytes]], now: float, limit: int
) -> list[tuple[bytes, bytes]]:
    """At most ``limit`` of the entries that are due, those that have waited longest first."""
    now_ms = int(now * 1000)
    due = [(_DUE.unpack_from(value)[0], key, value) for key, value in entries]
    return [(key, value) for at, key, value in sorted(due)[:limit] if at <= now_ms]
