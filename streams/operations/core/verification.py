"""Independent ways to the same number, compared: what one of them lacks or has otherwise.

Counts come as parts, one a source partition, each with the last source offset counted in it. Two
parts of the same thing must say the same where they have counted equally far; and where nothing can
change them any more they must have counted equally far. What is still moving is passed over.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from schemas.metrics import ADDITIVE_METRICS, EVENT_SUMS

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)

SHARED_BY_DAYS = (*ADDITIVE_METRICS, "engaged")
"""What adds up over the minutes of a day: distinct listeners do not."""


class Part(NamedTuple):
    """What one source partition has counted, up to ``offset``, by metric."""

    offset: int
    counts: Mapping[str, int]


class Minute(NamedTuple):
    """An episode's UTC minute in one source partition."""

    episode_id: str
    bucket: datetime
    partition: int


class Total(NamedTuple):
    """A UTC minute in one source partition, over all episodes."""

    bucket: datetime
    partition: int


class Heard(NamedTuple):
    """What one listener did with an episode on a UTC day."""

    user_id: str
    episode_id: str
    day: date


class Day(NamedTuple):
    """An episode's UTC day in one source partition."""

    episode_id: str
    day: date
    partition: int


@dataclass(frozen=True)
class Violation:
    """Two ways to the number of one key that differ; None where one of them has no such key."""

    check: str
    key: tuple[tuple[str, str], ...]
    one: Mapping[str, int] | None
    other: Mapping[str, int] | None

    def sentence(self) -> str:
        """The key, and what differs."""
        key = ", ".join(f"{name} {value}" for name, value in self.key)
        sides = [
            "nothing" if side is None else ", ".join(f"{n} {side[n]:,}" for n in self._differing())
            for side in (self.one, self.other)
        ]
        return f"{self.check}: {key}: {sides[0]} against {sides[1]}"

    def _differing(self) -> list[str]:
        both = self.one if self.one is not None else self.other
        names = list(both or ())
        if self.one is None or self.other is None:
            return [name for name in names if (both or {})[name]]
        return [name for name in names if self.one[name] != self.other[name]]


@dataclass
class Findings:
    """How many numbers a check has compared, and which of them differ."""

    check: str
    compared: int = 0
    violations: list[Violation] = field(default_factory=list)

    def compare(
        self, key: NamedTuple, one: Mapping[str, int] | None, other: Mapping[str, int] | None
    ) -> None:
        """Note two ways to the number of a key, with the same metrics."""
        self.compared += 1
        if one != other:
            told = tuple((name, _shown(value)) for name, value in key._asdict().items())
            self.violations.append(Violation(self.check, told, one, other))


class Event(NamedTuple):
    """An event as Delta has it."""

    key: Heard
    partition: int
    offset: int
    kind: str
    heard_ms: int


@dataclass(frozen=True)
class Watermarks:
    """How far event time has got in each source partition, for those that have told."""

    newest: Mapping[int, datetime]
    lateness: timedelta

    def over(self, end: datetime, partition: int) -> bool:
        """Whether nothing before ``end`` can change any more."""
        at = self.newest.get(partition)
        return at is not None and end + self.lateness <= at - MINUTE


K = TypeVar("K", bound=Hashable)


def add_up(
    parts: Iterable[tuple[K, Part]], metrics: tuple[str, ...]
) -> dict[K, tuple[int, dict[str, int]]]:
    """The sums by key, and the highest offset in each."""
    sums: dict[K, tuple[int, dict[str, int]]] = {}
    for key, part in parts:
        offset, counts = sums.get(key, (-1, dict.fromkeys(metrics, 0)))
        for name in metrics:
            counts[name] += part.counts.get(name, 0)
        sums[key] = max(offset, part.offset), counts
    return sums


def totals_against_minutes(
    minutes: Mapping[Minute, Part], totals: Mapping[Total, Part], marks: Watermarks
) -> Findings:
    """Each minute's sum over all episodes against the totals that were told of it.

    ``minutes`` hold every episode of the minutes in question.
    """
    found = Findings("totals against minutes")
    sums = add_up(
        ((Total(key.bucket, key.partition), part) for key, part in minutes.items()),
        ADDITIVE_METRICS,
    )
    for key in sorted(sums.keys() | totals.keys()):
        over = marks.over(key.bucket + MINUTE, key.partition)
        _compare(found, key, totals.get(key), sums.get(key), ADDITIVE_METRICS, over)
    return found


def days_against_minutes(
    minutes: Mapping[Minute, Part], days: Mapping[Day, Part], marks: Watermarks
) -> Findings:
    """Each episode's day against the sum of its minutes, all of which ``minutes`` hold."""
    found = Findings("days against minutes")
    sums = add_up(
        (
            (Day(key.episode_id, key.bucket.date(), key.partition), part)
            for key, part in minutes.items()
        ),
        SHARED_BY_DAYS,
    )
    for key in sorted(sums.keys() | days.keys()):
        end = datetime(key.day.year, key.day.month, key.day.day, tzinfo=UTC) + DAY
        _compare(
            found, key, days.get(key), sums.get(key), SHARED_BY_DAYS, marks.over(end, key.partition)
        )
    return found


def _compare(
    found: Findings,
    key: NamedTuple,
    part: Part | None,
    sums: tuple[int, dict[str, int]] | None,
    metrics: tuple[str, ...],
    over: bool,
) -> None:
    """Compare a part with sums, if both have counted equally far, or nothing moves any more."""
    offset, counts = sums if sums is not None else (-1, None)
    if over or (part is not None and part.offset == offset):
        told = {name: part.counts.get(name, 0) for name in metrics} if part is not None else None
        found.compare(key, told, counts)


KeyT = TypeVar("KeyT", Minute, Day)


def delta_against(
    check: str,
    delta: Mapping[KeyT, Mapping[str, int]],
    live: Mapping[KeyT, Mapping[str, int]],
    newest: Mapping[int, date],
) -> Findings:
    """What Delta holds, of what is over, against what is served of it.

    ``newest``: source partition -> the newest minute or day that Delta has of it. It is handed over
    in order, so Delta must have all that is older.
    """
    found = Findings(check)
    due = {key for key in live if key.partition in newest and key[1] < newest[key.partition]}
    for key in sorted(delta.keys() | due):
        found.compare(key, delta.get(key), live.get(key))
    return found


def listening_against_events(
    daily: Mapping[Heard, tuple[int, Part]],
    events: Iterable[Event],
    counted: Mapping[int, int],
    there: Mapping[int, int],
) -> Findings:
    """Who heard how much on a day, against the sum of the events.

    ``daily`` has the source partition beside each part. ``counted`` and ``there`` are how far the
    daily amounts, and the events, have got in each source partition: what goes beyond the events is
    passed over.
    """
    found = Findings("daily listening against events")
    reached = {
        key: max(part.offset, counted.get(partition, -1))
        for key, (partition, part) in daily.items()
    }
    sums: dict[Heard, dict[str, int]] = {}
    for event in events:
        if event.offset <= reached.get(event.key, counted.get(event.partition, -1)):
            row = sums.setdefault(event.key, dict.fromkeys(EVENT_SUMS, 0))
            row["heard_ms"] += event.heard_ms
            if f"{event.kind}s" in row:
                row[f"{event.kind}s"] += 1
    for key, (partition, part) in daily.items():
        if reached[key] <= there.get(partition, -1):
            told = {name: part.counts[name] for name in EVENT_SUMS}
            found.compare(key, told, sums.get(key))
    for key in sums.keys() - daily.keys():
        found.compare(key, None, sums[key])
    return found


def _shown(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
