"""How far a live table has got, as its readers are told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol


class Counted(Protocol):
    """A state that counts the events of one source partition."""

    applied: int
    watermark: int
    late: int
    events: int


def progress_record(stage: str, partition: int, state: Counted) -> dict[str, Any]:
    """The record of `table_progress` of a stage's state that has applied at least one event."""
    return {
        "stage": stage,
        "source_partition": partition,
        "offset": state.applied,
        "watermark": datetime.fromtimestamp(state.watermark / 1000, UTC),
        "late": state.late,
        "events": state.events,
    }
