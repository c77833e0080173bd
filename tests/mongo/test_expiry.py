"""What is old leaves MongoDB by event time, whole, and does not come back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import polars as pl
import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.database import Database

from schemas import columnar
from schemas.metrics import ADDITIVE_METRICS, DAY_METRICS, WINDOW_METRICS
from streams.runtime.clock import ManualClock
from streams.runtime.in_memory import MemoryRuntime
from streams.serving.core.documents import Document
from streams.serving.mongo import expiry
from streams.serving.mongo.expiry import DAYS as OF_DAYS
from streams.serving.mongo.expiry import KINDS, MINUTES, REFRESHES_TO_SEE, Expiry, Kind
from streams.serving.mongo.mongo import MongoSink
from streams.serving.serve_mongo import COUNTED_BY
from topology.graph import build_graph
from topology.settings import Settings

pytestmark = pytest.mark.mongo

GRAPH = build_graph(2)
DATED = {collection: field for kind in KINDS for collection, field in kind.dated.items()}
KEEP_DAYS = 10
FIRST = date(2026, 1, 1)
DAYS = 16
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def settings(mongo_uri: str, tmp_path: Path) -> Settings:
    return Settings(
        podstream_home=tmp_path,
        mongodb_uri=SecretStr(mongo_uri),
        mongodb_database=f"t{uuid4().hex[:8]}",
        mongo_keep_days=KEEP_DAYS,
        event_partitions=2,
    )


@pytest.fixture
def database(settings: Settings) -> Iterator[Database[Document]]:
    with MongoClient[Document](settings.mongodb_uri.get_secret_value(), tz_aware=True) as client:
        yield client[settings.mongodb_database]


class Served:
    """serve_mongo, and what it is told: one play a day in each source partition."""

    def __init__(self, settings: Settings, database: Database[Document]) -> None:
        self.runtime = MemoryRuntime(GRAPH, settings)
        self.context = self.runtime.start("serve_mongo")
        self.database = database

    def tell(self, days: range, *partitions: int, offset: int = 1) -> None:
        for partition in partitions:
            for day in days:
                self._tell(NOON + timedelta(days=day), partition, offset)

    def _tell(self, at: datetime, partition: int, offset: int) -> None:
        place = {"episode_id": "a", "source_partition": partition, "offset": offset}
        on = {**place, "day": at.date(), "final": False}
        rows = {
            "engagement-windows": {**place, "bucket": at, **dict.fromkeys(WINDOW_METRICS, 1)},
            "engagement-totals": {
                **{name: place[name] for name in ("source_partition", "offset")},
                "bucket": at,
                **dict.fromkeys(ADDITIVE_METRICS, 1),
            },
            "episode-days": {**on, **dict.fromkeys(DAY_METRICS, 1)},
            "episode-retention": {**on, "minute": 0, "listeners": 1},
        }
        for topic, row in rows.items():
            schema = columnar.columns(GRAPH.topics[topic].schema or "")
            self.runtime.log.append(topic, pl.DataFrame([row], schema=schema), partition=partition)
        found = {"direction": "rise", "plays": 30, "expected": 2.0, "score": 9.0}
        anomaly = {"episode_id": "a", "at": at, **found}
        self.runtime.log.append("episode-anomalies", anomaly, key="a")
        figure = {"model": "als", "metric": "coverage", "value": 0.5, "at": at}
        figure["generation"] = f"{at:%Y%m%dT%H%M%SZ}"
        self.runtime.log.append("model-metrics", figure, key=f"als|{figure['generation']}")
        training = {
            "generation": figure["generation"], "model": "als", "items": 1, "users": 1,
            "interactions": 1, "rank": 2, "alpha": 1.0, "regularization": 0.1, "seed": 0,
            "offsets": [], "trained_at": at, "train_seconds": 1.0, "metrics": {},
        }  # fmt: skip
        self.runtime.log.append("model-generations", training, key=str(figure["generation"]))

    def reach(self, *days: int | None) -> None:
        """How far the source partitions are: so many days after the first."""
        for partition, day in enumerate(days):
            if day is not None:
                record = {
                    "stage": COUNTED_BY,
                    "source_partition": partition,
                    "offset": 1,
                    "watermark": NOON + timedelta(days=day),
                    "late": 0,
                    "events": 1,
                }
                key = f"{COUNTED_BY}|{partition}"
                self.runtime.log.append("table-progress", record, key=key)

    def run(self, times: int = REFRESHES_TO_SEE + 1) -> None:
        for _ in range(times):
            self.runtime.run()

    def days(self, collection: str) -> list[int]:
        """The days of what is there, counted from the first."""
        field = DATED[collection]
        found = [document[field] for document in self.database[collection].find()]
        return sorted((time.date() - FIRST).days for time in found)

    def all_days(self, *kinds: Kind) -> list[int]:
        """The same, of every collection whose documents expire, or of these kinds: they agree."""
        dated = [collection for kind in kinds or KINDS for collection in kind.dated]
        (days,) = {tuple(self.days(collection)) for collection in dated}
        return list(days)


@pytest.fixture
def served(settings: Settings, database: Database[Document]) -> Served:
    return Served(settings, database)


def test_whole_days_leave_as_the_slowest_partition_gets_on(served: Served) -> None:
    served.tell(range(DAYS), 0, 1)
    served.reach(15, 10)
    served.run()
    assert served.all_days() == list(range(DAYS))
    served.reach(15, 12)
    served.run()
    assert served.all_days() == list(range(2, DAYS))
    served.reach(15, 15)
    served.run()
    assert served.all_days() == list(range(5, DAYS))
    for collection in ("engagement_windows", "episode_days"):
        assert {d["plays"] for d in served.database[collection].find()} == {2}


def test_what_comes_again_or_very_late_brings_nothing_back(served: Served) -> None:
    served.tell(range(DAYS), 0)
    served.reach(15, 15)
    served.run()
    left = served.all_days()
    assert left == list(range(5, DAYS))
    # The part of another source partition, newer parts, and all of it once more.
    served.tell(range(DAYS), 1)
    served.tell(range(DAYS), 0, offset=2)
    served.run(1)
    assert served.all_days() == left
    served.runtime.crash("serve_mongo", redeliver=1000)
    served.runtime.run(timers=False)
    assert served.all_days() == left
    served.run()
    assert served.all_days() == left
    assert {d["plays"] for d in served.database["engagement_windows"].find()} == {2}


def test_a_partition_that_has_not_told_anything_is_not_waited_for(served: Served) -> None:
    served.tell(range(DAYS), 0)
    served.reach(15, None)
    served.run()
    assert served.all_days() == list(range(5, DAYS))
    # What it then tells of days that have left is left out.
    served.tell(range(DAYS), 1)
    served.reach(15, 3)
    served.run()
    assert served.all_days() == list(range(5, DAYS))


def test_nothing_leaves_where_all_is_kept(settings: Settings, database: Database[Document]) -> None:
    served = Served(settings.model_copy(update={"mongo_keep_days": 0}), database)
    served.tell(range(DAYS), 0, 1)
    served.reach(4000, 4000)
    served.run()
    assert served.all_days() == list(range(DAYS))
    assert database[expiry.EXPIRY].count_documents({}) == 0


def test_seven_months_are_whole_under_the_default(
    settings: Settings, database: Database[Document]
) -> None:
    default = Settings.model_fields["mongo_keep_days"].default
    served = Served(settings.model_copy(update={"mongo_keep_days": default}), database)
    months = range(0, 215, 5)
    served.tell(months, 0)
    served.reach(215, None)  # one partition is through before the other begins
    served.run()
    served.tell(months, 1)
    served.reach(215, 215)
    served.run()
    assert served.all_days() == list(months)
    assert {d["plays"] for d in database["engagement_windows"].find()} == {2}


def test_minutes_leave_by_the_hour_and_days_stay(
    settings: Settings, database: Database[Document]
) -> None:
    hours = 50
    served = Served(settings.model_copy(update={"mongo_keep_hours": hours}), database)
    served.tell(range(DAYS), 0, 1)
    served.reach(15, 15)
    served.run()
    assert served.all_days(MINUTES) == [13, 14, 15]
    assert served.all_days(OF_DAYS) == list(range(5, DAYS))
    kept_from = database[expiry.EXPIRY].find_one({"_id": MINUTES.key})
    assert kept_from is not None
    assert kept_from[expiry.FIELD] == NOON + timedelta(days=15) - timedelta(hours=hours)


def test_minutes_that_left_with_the_days_of_an_earlier_release_do_not_come_back(
    served: Served, database: Database[Document]
) -> None:
    limit = datetime(2026, 1, 6, tzinfo=UTC)
    database[expiry.EXPIRY].insert_one({"_id": OF_DAYS.key, expiry.FIELD: limit})
    served.tell(range(DAYS), 0)
    served.runtime.run(timers=False)
    assert served.all_days() == list(range(5, DAYS))


def test_minutes_that_are_kept_longer_than_days_stay(
    settings: Settings, database: Database[Document]
) -> None:
    served = Served(settings.model_copy(update={"mongo_keep_hours": 100 * 24}), database)
    served.tell(range(DAYS), 0, 1)
    served.reach(15, 15)
    served.run(3 * REFRESHES_TO_SEE)
    assert served.all_days(OF_DAYS) == list(range(5, DAYS))
    assert served.all_days(MINUTES) == list(range(DAYS))


def an_expiry(sink: MongoSink, kind: Kind = MINUTES, days: int = KEEP_DAYS) -> Expiry:
    return Expiry(sink, ManualClock(), kind, COUNTED_BY, 2, timedelta(days=days))


def two_workers(settings: Settings) -> tuple[MongoSink, Expiry, Expiry]:
    sink = MongoSink(settings, GRAPH.stages["serve_mongo"])
    return sink, an_expiry(sink, OF_DAYS), an_expiry(sink, OF_DAYS, 100)


async def test_nothing_is_removed_before_others_have_seen_that_it_will_be(
    settings: Settings, database: Database[Document]
) -> None:
    served = Served(settings, database)
    await asyncio.to_thread(prepare, served)
    sink, one, other = two_workers(settings)
    assert await other.before() == expiry.FOREVER
    limit = datetime(2026, 1, 6, tzinfo=UTC)
    for _ in range(REFRESHES_TO_SEE):
        await one.refresh()
        assert await one.before() == limit
        assert served.all_days(OF_DAYS) == list(range(DAYS))
    # One that is told to keep more follows, as what is gone is gone, and takes nothing back.
    await other.refresh()
    assert await other.before() == limit
    await asyncio.gather(one.refresh(), other.refresh())
    assert served.all_days(OF_DAYS) == list(range(5, DAYS))
    assert served.all_days(MINUTES) == list(range(DAYS))
    await other.refresh()
    stored = database[expiry.EXPIRY].find_one({"_id": OF_DAYS.key})
    assert stored is not None
    assert stored[expiry.FIELD] == limit
    assert await an_expiry(sink, OF_DAYS, 0).before() == limit
    sink.close()


def prepare(served: Served) -> None:
    served.tell(range(DAYS), 0)
    served.reach(15, 15)
    served.runtime.run(timers=False)


async def test_much_leaves_little_by_little(
    settings: Settings, database: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(settings, database)
    await asyncio.to_thread(prepare, served)
    monkeypatch.setattr(expiry, "FOUND_AT_ONCE", 3)
    monkeypatch.setattr(expiry, "REMOVED_AT_ONCE", 2)
    sink, one, _ = two_workers(settings)
    for _ in range(REFRESHES_TO_SEE):
        await one.refresh()
    # The time is over before it has begun: one look for each refresh.
    monkeypatch.setattr(expiry, "LONGEST_S", -1.0)
    left = []
    for _ in range(8):
        await one.refresh()
        left.append([len(served.days(collection)) for collection in OF_DAYS.dated])
    assert left == [
        [13, 16, 16, 16], [11, 16, 16, 16], [11, 13, 16, 16], [11, 11, 16, 16],
        [11, 11, 13, 16], [11, 11, 11, 16], [11, 11, 11, 13], [11] * 4,
    ]  # fmt: skip
    sink.close()


async def test_times_are_raised_and_never_lowered(
    settings: Settings, database: Database[Document]
) -> None:
    sink = MongoSink(settings, GRAPH.stages["serve_mongo"])
    for days in (3, 9, 4):
        await sink.raise_to(expiry.EXPIRY, "x", "before", NOON + timedelta(days=days))
    assert next(database[expiry.EXPIRY].find())["before"] == NOON + timedelta(days=9)
    sink.close()


def test_the_oldest_leave_first(settings: Settings, database: Database[Document]) -> None:
    """So that what is left has no gap, whenever somebody looks."""
    served = Served(settings, database)
    served.tell(range(DAYS), 0)
    served.runtime.run(timers=False)
    sink = MongoSink(settings, GRAPH.stages["serve_mongo"])
    for collection, field in DATED.items():
        old = asyncio.run(sink.older(collection, field, NOON + timedelta(days=9), 3))
        ids = [d["_id"] for d in database[collection].find().sort(field, 1).limit(3)]
        assert old == ids
    sink.close()


def test_what_expires_has_an_index_for_its_time() -> None:
    for collection, field in DATED.items():
        first = {index.fields[0][0] for index in GRAPH.collections[collection].indexes}
        assert field in first
