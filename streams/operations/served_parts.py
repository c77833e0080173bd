"""What MongoDB serves of the live tables, as parts of source partitions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pymongo.database import Database

from schemas.metrics import ADDITIVE_METRICS, DAY_METRICS, WINDOW_METRICS
from streams.operations.core.verification import DAY, Day, Minute, Part, Total, Watermarks
from streams.serving.mongo import expiry

COUNTED_BY = "track_engagement"
HOUR = timedelta(hours=1)


class ServedParts:
    """Reads documents by their indexes. Raises PyMongoError."""

    def __init__(self, database: Database[dict[str, Any]], lateness: timedelta):
        self._database = database
        self._lateness = lateness

    def watermarks(self) -> Watermarks:
        """How far event time has got."""
        found = self._database["table_progress"].find({"stage": COUNTED_BY})
        return Watermarks({d["source_partition"]: d["watermark"] for d in found}, self._lateness)

    def kept_from(self, kind: expiry.Kind) -> datetime:
        """What is older has been removed, or is about to be."""
        for key in filter(None, (kind.key, kind.formerly)):
            if found := self._database[expiry.EXPIRY].find_one({"_id": key}):
                at: datetime = found[expiry.FIELD]
                return at
        return expiry.FOREVER

    def hours(self) -> Iterator[datetime]:
        """The UTC hours that any minute is kept of, ascending."""
        at = self.kept_from(expiry.MINUTES)
        while (found := self._first("engagement_windows", "bucket", at)) is not None:
            hour = found.replace(minute=0)
            yield hour
            at = hour + HOUR

    def days(self) -> Iterator[date]:
        """The UTC days that are kept with all of their minutes, ascending."""
        at = self.days_from()
        while (found := self._first("episode_days", "day", at)) is not None:
            yield found.date()
            at = found + DAY

    def days_from(self) -> datetime:
        """The beginning of the first UTC day that is kept with all of its minutes."""
        at = max(self.kept_from(expiry.DAYS), self.kept_from(expiry.MINUTES))
        begins = midnight(at.date())
        return begins if at == begins else begins + DAY

    def _first(self, collection: str, field: str, at: datetime) -> datetime | None:
        documents = self._database[collection].find({field: {"$gte": at}}, {field: 1})
        found = next(iter(documents.sort(field, 1).limit(1)), None)
        return None if found is None else found[field]

    def minutes_of(self, start: datetime, end: datetime) -> dict[Minute, Part]:
        """The minutes of all episodes in a stretch of time."""
        return self._minutes({"bucket": {"$gte": start, "$lt": end}})

    def minutes_of_day(self, episodes: Sequence[str], day: date) -> dict[Minute, Part]:
        """The minutes of some episodes on a UTC day."""
        start = midnight(day)
        wanted = {"$gte": start, "$lt": start + DAY}
        return self._minutes({"episode_id": {"$in": list(episodes)}, "bucket": wanted})

    def _minutes(self, wanted: dict[str, Any]) -> dict[Minute, Part]:
        return {
            Minute(document["episode_id"], document["bucket"], int(partition)): _part(
                part, WINDOW_METRICS
            )
            for document in self._database["engagement_windows"].find(wanted)
            for partition, part in document["parts"].items()
        }

    def totals_of(self, hour: datetime) -> tuple[dict[Total, Part], dict[int, datetime]]:
        """The totals of each minute of an hour, and the first minute that each partition told of;
        nothing of an hour before totals were told."""
        document = self._database["engagement_totals"].find_one({"hour": hour}) or {}
        first = {int(p): hour + timedelta(minutes=m) for p, m in document.get("first", {}).items()}
        return {
            Total(hour + timedelta(minutes=int(minute)), int(partition)): _part(
                part, ADDITIVE_METRICS
            )
            for partition, minutes in document.get("parts", {}).items()
            for minute, part in minutes.items()
        }, first

    def episodes_of(self, day: date) -> list[str]:
        """The episodes that have a document of a UTC day."""
        found = self._database["episode_days"].find({"day": midnight(day)}, {"episode_id": 1})
        return sorted(document["episode_id"] for document in found)

    def days_of(self, episodes: Sequence[str], day: date) -> tuple[dict[Day, Part], set[Day]]:
        """A UTC day of some episodes, and which parts of it are final."""
        wanted = {"episode_id": {"$in": list(episodes)}, "day": midnight(day)}
        parts, final = {}, set()
        for document in self._database["episode_days"].find(wanted):
            for partition, part in document.get("parts", {}).items():
                key = Day(document["episode_id"], day, int(partition))
                parts[key] = _part(part, DAY_METRICS)
                if part["final"]:
                    final.add(key)
        return parts, final


def midnight(day: date) -> datetime:
    """The beginning of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _part(document: dict[str, Any], metrics: Sequence[str]) -> Part:
    return Part(document["offset"], {name: document.get(name, 0) for name in metrics})
