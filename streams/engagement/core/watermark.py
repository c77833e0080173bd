"""What the headers of `engagement-windows` say of the source partitions: how far each of them is.

``closed`` has the watermark of each: its last final minute. A minute is final once no event can
change it any more. Whatever the source partition has to say of it, and of the minutes before, to
the readers of this partition of the topic, is in the message that carries the header or in an
earlier one. ``logged`` has the log's time of the newest event that is counted in that, by which one
source partition is compared with another. ``quiet`` has the log's time up to which a source
partition has nothing that is not counted yet, told where nothing came for a while.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from schemas.codec import BadRecordError

HEADER, LOGGED, QUIET = "closed", "logged", "quiet"


def watermark_header(
    watermarks: Mapping[int, int],
    logged_ms: Mapping[int, int] | None = None,
    quiet_ms: Mapping[int, int] | None = None,
) -> dict[str, bytes]:
    """The headers of a message: source partition -> last final minute, counted from 1970; and, in
    milliseconds since then, the log's times."""
    told = {HEADER: watermarks, LOGGED: logged_ms, QUIET: quiet_ms}
    return {
        name: json.dumps(values).encode()
        for name, values in told.items()
        if values or name == HEADER
    }


def read_watermarks(value: bytes | None, name: str = HEADER) -> dict[int, int]:
    """Source partition -> minute or milliseconds, of the value of the header ``name``; nothing
    without a header.

    Raises BadRecordError if it is no such header.
    """
    if value is None:
        return {}
    try:
        return {int(source): int(number) for source, number in json.loads(value).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadRecordError(f"header {name!r} is not understood: {error}") from error
