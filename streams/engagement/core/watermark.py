"""The watermark header of `engagement-windows`: the last final minute of each source partition.

A minute is final once no event can change it any more. Whatever the source partition has to say
of it, and of the minutes before, to the readers of this partition of the topic, is in the message
that carries the header or in an earlier one. On the wire the header is called ``closed``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from schemas.codec import BadRecordError

HEADER = "closed"


def watermark_header(watermarks: Mapping[int, int]) -> dict[str, bytes]:
    """The header of a message: source partition -> last final minute, counted from 1970."""
    return {HEADER: json.dumps(watermarks).encode()}


def read_watermarks(value: bytes | None) -> dict[int, int]:
    """Source partition -> last final minute, of a header's value; nothing without a header.

    Raises BadRecordError if it is no such header.
    """
    if value is None:
        return {}
    try:
        return {int(source): int(minute) for source, minute in json.loads(value).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadRecordError(f"header {HEADER!r} is not understood: {error}") from error
