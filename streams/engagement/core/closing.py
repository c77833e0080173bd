"""What messages of `engagement-windows` tell of their source partitions: up to where all is said.

A header of each message gives, by source partition, the last minute that no event can change any
more. Whatever the source partition has to say of it, and of the minutes before, to the readers of
this partition of the topic, is in this message or in an earlier one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from schemas.codec import BadRecordError

HEADER = "closed"


def closed_header(minutes: Mapping[int, int]) -> dict[str, bytes]:
    """The header of a message; ``minutes`` are counted from 1970, by source partition."""
    return {HEADER: json.dumps(minutes).encode()}


def closed_minutes(value: bytes | None) -> dict[int, int]:
    """What the header told; nothing without one. BadRecordError if it is no such header."""
    if value is None:
        return {}
    try:
        return {int(source): int(minute) for source, minute in json.loads(value).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadRecordError(f"header {HEADER!r} is not understood: {error}") from error
