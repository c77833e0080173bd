"""Counts the minutes of a stretch of `user-events` anew, in plain Python, record by record.

It shares nothing with the stages: not how events are checked (who was refused is in the dead-letter
topic), not how repeats are found, not how minutes are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.metrics import EVENT_SUMS
from streams.kafka.forgetting import Forgetting

_METRIC_OF = {
    "impression": "impressions",
    "click": "clicks",
    "play": "plays",
    "complete": "completes",
}


@dataclass(frozen=True)
class Seen:
    """One record of a source partition; ``event`` is None where nothing decodes, and ``sender``
    says who numbered it, and how, of what an import or a hand-over has sent."""

    offset: int
    logged_at: datetime
    event: Mapping[str, Any] | None
    sender: tuple[str, int] | None = None


def good_events(
    records: Iterable[Seen],
    dead: Collection[int],
    belongs: Callable[[str], bool],
    dedup_window: int,
) -> Iterator[Seen]:
    """The records that count: not ``dead``, of this partition's listeners, and no repeats.

    A repeat has an id that its listener had at most ``dedup_window`` offsets ago, or a number that
    is not above all that its sender had.
    """
    last_seen: dict[tuple[str, str], int] = {}
    numbers: dict[str, int] = {}
    for record in records:
        again = False
        if record.sender is not None:
            name, number = record.sender
            again = number <= numbers.get(name, -1)
            numbers[name] = max(number, numbers.get(name, -1))
        event = record.event
        if event is None or record.offset in dead or not belongs(event["user_id"]):
            continue
        identity = (event["user_id"], event["event_id"])
        before = last_seen.get(identity)
        last_seen[identity] = record.offset
        if not again and (before is None or record.offset - before > dedup_window):
            yield record


def without_left_out(records: Iterable[Seen], forgotten: Iterable[Forgetting]) -> Iterator[Seen]:
    """The good records that are in batches: some were not when their listeners were forgotten."""
    spans = {one.user_id: (one.batched_to, one.up_to) for one in forgotten}
    for record in records:
        event = record.event or {}
        first, last = spans.get(event.get("user_id", ""), (0, -1))
        if not first <= record.offset <= last:
            yield record


def minute_counts(
    records: Iterable[Seen], minute: datetime, lateness: timedelta
) -> tuple[dict[str, dict[str, int]], bool]:
    """Episode -> counts of a UTC minute, and whether the records go on until it was over.

    An event counts at its time, or when the log took it if that was earlier. One that is more than
    ``lateness`` behind the newest before it does not count. The records begin before anything that
    belongs to the minute.
    """
    counts: dict[str, dict[str, int]] = {}
    newest = datetime.min.replace(tzinfo=UTC)
    for record in records:
        event = record.event or {}
        at = min(event["occurred_at"], record.logged_at)
        if minute <= at < minute + timedelta(minutes=1) and newest - at <= lateness:
            row = counts.setdefault(event["episode_id"], dict.fromkeys(EVENT_SUMS, 0))
            if (metric := _METRIC_OF.get(event["kind"])) is not None:
                row[metric] += 1
            row["heard_ms"] += event["heard_ms"]
        newest = max(newest, at)
        if newest - lateness >= minute + timedelta(minutes=1):
            return counts, True
    return counts, False
