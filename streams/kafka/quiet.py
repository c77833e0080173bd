"""How a message of `user-event-batches` says that nothing follows: by a header of its own.

`batch_events` puts it on a message without rows, in its place among the events.
"""

from __future__ import annotations

from collections.abc import Iterable

QUIET_TO = "quiet_to"


def quiet_header(log_ms: int) -> dict[str, bytes]:
    """The header of a message: up to a log time, milliseconds since 1970, its source partition has
    no record beyond the batches before."""
    return {QUIET_TO: str(log_ms).encode()}


def quiet_to(headers: Iterable[tuple[str, bytes]]) -> int | None:
    """What a message says of it; None for a message like any other."""
    told = next((value for name, value in headers if name == QUIET_TO), None)
    return None if told is None else int(told)
