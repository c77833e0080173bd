"""When to try again what was not available: growing waits, and then never again.

What waits is kept as 8 bytes, the time it is due in Unix milliseconds (big-endian), so that
finding what is due needs no decoding, and an Avro record that has this time as `due_at`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.codec import from_plain, to_plain
from streams.http.circuit import LONGEST_ASKED_S, jitter

NEVER_MS = 2**63 - 1
"""When something is due that waits for nothing any more."""

_DUE = struct.Struct(">q")


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


def encode_entry(schema: str, record: Mapping[str, Any]) -> bytes:
    """A record of a schema with `due_at`, behind the time it is due; without one it never is."""
    at = record["due_at"]
    due = _DUE.pack(NEVER_MS if at is None else int(at.timestamp() * 1000))
    return due + to_plain(schema, record)


def decode_entry(schema: str, value: bytes) -> dict[str, Any]:
    """The record in what `encode_entry` gave. Raises BadRecordError if there is none."""
    record: dict[str, Any] = from_plain(schema, value[_DUE.size :])
    return record


def due_ms(value: bytes) -> int:
    """When an encoded record is due, in Unix milliseconds; NEVER_MS if never."""
    due: int = _DUE.unpack_from(value)[0]
    return due
