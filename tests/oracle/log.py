"""What the log of events says, by the rules of the way in: good, dead or a repeat.

Plain Python on purpose, and no import from the stages: it is to be read beside the documentation
of the live tables, and to find the mistakes of the code that computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

DAY = timedelta(days=1)
DAY_MS = 24 * 60 * 60 * 1000
FIRST_YEAR = datetime(1990, 1, 1, tzinfo=UTC)
STRINGS = (
    "event_id",
    "user_id",
    "episode_id",
    "session_id",
    "surface",
    "arm",
    "user_agent",
    "generation",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a partition of `user-events`; ``event`` is None where nothing decodes.

    ``origin``: who sent it again and again, and its number there, of what an import or a hand-over
    has sent.
    """

    offset: int
    logged_at: datetime
    event: Mapping[str, Any] | None
    origin: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A good event, and where it is in the log."""

    offset: int
    logged_at: datetime
    event_id: str
    user: str
    episode: str
    kind: str
    occurred_at: datetime
    heard_ms: int
    position_ms: int
    duration_ms: int | None
    user_agent: str | None


@dataclass
class Sorted:
    """A partition's records, each in one of four places."""

    good: list[Row] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    repeats: list[int] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    forgotten: list[Row] = field(default_factory=list)

    def written(self) -> int:
        others = len(self.dead) + len(self.repeats) + len(self.moved)
        return len(self.good) + len(self.forgotten) + others

    def forget(self, rows: Iterable[Row]) -> None:
        """Take good events for those of a listener who is forgotten before they were counted."""
        self.forgotten = list(rows)
        self.good = [row for row in self.good if row not in self.forgotten]


def sort_out(
    entries: Iterable[Entry],
    dedup_window: int,
    belongs: Callable[[str], bool] = lambda user: True,
) -> Sorted:
    """The records of one partition, in offset order; ``belongs`` knows the partition's listeners.

    A valid event is a repeat if one of its listener had its id at most ``dedup_window`` offsets
    ago, which may have been a repeat itself, or if its sender has sent a number as high before. An
    event of another partition's listener is moved there: sent again.
    """
    result = Sorted()
    seen: dict[tuple[str, str], int] = {}
    highest: dict[str, int] = {}
    for entry in entries:
        again = False
        if entry.origin is not None:
            sender, number = entry.origin
            again = number <= highest.get(sender, -1)
            highest[sender] = max(number, highest.get(sender, -1))
        if entry.event is None or not valid(entry.event, entry.logged_at):
            result.dead.append(entry.offset)
            continue
        row = _row(entry, entry.event)
        if not belongs(row.user):
            (result.repeats if again else result.moved).append(entry.offset)
            continue
        last = seen.get((row.user, row.event_id))
        if again or (last is not None and entry.offset - dedup_window <= last):
            result.repeats.append(entry.offset)
        else:
            result.good.append(row)
        seen[row.user, row.event_id] = entry.offset
    return result


def valid(event: Mapping[str, Any], logged_at: datetime) -> bool:
    """Whether the values of an event are possible."""
    amounts = [event.get(name) for name in ("heard_ms", "position_ms", "duration_ms")]
    rank = event.get("rank")
    return (
        all(event[name] != "" for name in ("event_id", "user_id", "episode_id"))
        and all(len((event.get(name) or "").encode()) <= 1024 for name in STRINGS)
        and all(amount is None or 0 <= amount <= DAY_MS for amount in amounts)
        and FIRST_YEAR <= event["occurred_at"] <= logged_at + DAY
        and (rank is None or rank >= 1)
    )


def _row(entry: Entry, event: Mapping[str, Any]) -> Row:
    return Row(
        offset=entry.offset,
        logged_at=entry.logged_at,
        event_id=event["event_id"],
        user=event["user_id"],
        episode=event["episode_id"],
        kind=event["kind"],
        occurred_at=event["occurred_at"],
        heard_ms=event.get("heard_ms", 0),
        position_ms=event.get("position_ms", 0),
        duration_ms=event.get("duration_ms"),
        user_agent=event.get("user_agent"),
    )
