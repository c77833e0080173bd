"""Documents of long ago leave MongoDB, by event time; Delta and the log keep what they told.

What is older than a span behind the slowest source partition is removed: minutes by whole UTC
hours, the rest by whole UTC days. A replay of old history is not emptied as it comes, and a clock
has no say.

A document is the sum of parts of several source partitions. Once it is gone, a part that comes
again, after a restart or very late, must not bring back a document that lacks the others. So the
time before which all is removed is a document of its own, which never goes back. Every worker
leaves out what is older; and who moves it on, removes nothing before all workers have had the time
to see it. Workers remove the same things, the oldest first, which is harmless: what is left has no
gap at any moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from streams.runtime.clock import Clock
from streams.serving.mongo.mongo import MongoSink

EXPIRY, FIELD = "document_expiry", "before"
"""The collection and the field of the times before which all is removed."""


@dataclass(frozen=True, eq=False)
class Kind:
    """What is removed together: collection -> the field with its time, which has an index.

    ``key`` is the `_id` of the time before which it is removed; ``unit`` is a day or an hour. Where
    nothing is noted under it yet, the time of ``formerly`` counts, with which it was removed once.
    """

    key: str
    dated: Mapping[str, str]
    unit: timedelta
    formerly: str | None = None


DAYS = Kind(
    "live",
    {
        "episode_days": "day",
        "episode_anomalies": "at",
        "model_metrics": "at",
        "model_generations": "trained_at",
    },
    timedelta(days=1),
)
MINUTES = Kind(
    "minutes",
    {"engagement_windows": "bucket", "engagement_totals": "hour"},
    timedelta(hours=1),
    formerly=DAYS.key,
)
KINDS = (MINUTES, DAYS)

FOREVER = datetime(1970, 1, 1, tzinfo=UTC)
"""Nothing is before it."""

PROGRESS = "table_progress"
REFRESHES_TO_SEE = 2
FOUND_AT_ONCE = 20_000
REMOVED_AT_ONCE = 500
LONGEST_S = 20.0
"""After so long the others of the process are left alone until the next refresh."""


class Expiry:
    """What one worker knows of the time before which everything of a kind is removed."""

    def __init__(
        self,
        sink: MongoSink,
        clock: Clock,
        kind: Kind,
        stage: str,
        partitions: int,
        keep: timedelta,
    ):
        """``stage`` is the one whose progress with each source partition counts; where nothing is
        to be kept, for ever is meant, and nothing more is removed."""
        self._sink = sink
        self._clock = clock
        self._kind = kind
        self._progress = [f"{stage}|{partition}" for partition in range(partitions)]
        self._keep = keep
        self._before: datetime | None = None
        self._seen = [FOREVER] * REFRESHES_TO_SEE
        self._removing = FOREVER
        self._left: list[str] = []

    async def before(self) -> datetime:
        """What is older than this must not be written any more."""
        if self._before is None:
            self._before = await self._stored()
        return self._before

    async def refresh(self) -> None:
        """See how far others are, move on, and remove some of what is too old."""
        stored, wanted = await self._stored(), await self._wanted()
        if wanted > stored:
            await self._sink.raise_to(EXPIRY, self._kind.key, FIELD, wanted)
        self._before = max(await self.before(), stored, wanted)
        if not self._keep:
            return
        self._seen.append(self._before)
        if (seen_by_all := self._seen.pop(0)) > self._removing and not self._left:
            self._removing, self._left = seen_by_all, list(self._kind.dated)
        ends = self._clock.monotonic() + LONGEST_S
        while self._left:
            await self._remove_some(self._left[0])
            if self._clock.monotonic() > ends:
                break

    async def _stored(self) -> datetime:
        key, formerly = self._kind.key, self._kind.formerly
        found = await self._sink.find(EXPIRY, [key] if formerly is None else [key, formerly])
        if key in found or formerly is None:
            return found[key][FIELD] if found else FOREVER
        before: datetime = found[formerly][FIELD] if found else FOREVER
        if self._keep:  # noted at once: from now on each kind goes its own way
            await self._sink.raise_to(EXPIRY, key, FIELD, before)
        return before

    async def _wanted(self) -> datetime:
        if not self._keep:
            return FOREVER
        told = await self._sink.find(PROGRESS, self._progress)
        slowest = min((document["watermark"] for document in told.values()), default=FOREVER)
        whole = slowest - (slowest - FOREVER) % self._kind.unit
        return max(FOREVER, whole - self._keep)

    async def _remove_some(self, collection: str) -> None:
        field = self._kind.dated[collection]
        old = await self._sink.older(collection, field, self._removing, FOUND_AT_ONCE)
        for start in range(0, len(old), REMOVED_AT_ONCE):
            began = self._clock.monotonic()
            await self._sink.delete(collection, old[start : start + REMOVED_AT_ONCE])
            # At most half of the server's time: others want to write.
            await self._clock.sleep(self._clock.monotonic() - began)
        if len(old) < FOUND_AT_ONCE:
            self._left.remove(collection)
