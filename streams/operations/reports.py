"""What an import tells: while it runs, at its end, and where it cannot be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

Refuse = Callable[[int, str], None]
"""Called with the line and the reason of each row that is refused."""

Advance = Callable[[float], None]
"""Called with the share of a file that has been read, 0 to 1."""


class ImportFailedError(RuntimeError):
    """Nothing could be imported; the text says why and what to do."""


@dataclass
class Report:
    """What came of an import: records delivered by topic, and rows refused."""

    delivered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    known: int = 0
    """Records that were there already."""
    begun_after: int = 0
    """The line up to which an earlier run had brought everything in."""
    finished_at: datetime | None = None
    """When an earlier run had brought in all of it."""
    notes: list[str] = field(default_factory=list)
    """What was mended in reading."""
