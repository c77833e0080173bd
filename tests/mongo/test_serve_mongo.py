"""serve_mongo in memory against the real embedded MongoDB server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.database import Database

from schemas import columnar
from schemas.metrics import ADDITIVE_METRICS, DAY_METRICS, ROLLING_METRICS
from streams.cli.local.mongo import running_mongo
from streams.cli.local.ports import free_ports
from streams.kafka.message import Message
from streams.runtime.in_memory import MemoryRuntime
from streams.serving.core.documents import Document
from streams.serving.mongo.mongo import LostWritesError, MongoSink
from streams.serving.mongo.rolling import RollingPart, RollingWindows
from topology.graph import UndeclaredError, build_graph
from topology.settings import Settings

pytestmark = pytest.mark.mongo

MINUTE = datetime(2026, 1, 31, 12, 5, tzinfo=UTC)
GRAPH = build_graph(2)


def settings_for(uri: str, home: Path) -> Settings:
    return Settings(
        podstream_home=home, mongodb_uri=SecretStr(uri), mongodb_database=f"t{uuid4().hex[:8]}"
    )


@pytest.fixture
def settings(mongo_uri: str, tmp_path: Path) -> Settings:
    return settings_for(mongo_uri, tmp_path)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database[Document]]:
    with MongoClient[Document](settings.mongodb_uri.get_secret_value(), tz_aware=True) as client:
        yield client[settings.mongodb_database]


@pytest.fixture
def runtime(settings: Settings) -> MemoryRuntime:
    runtime = MemoryRuntime(GRAPH, settings)
    runtime.start("serve_mongo")
    return runtime


def recommendation(user: str, *episodes: str, offset: int = 1) -> dict[str, Any]:
    return {
        "user_id": user,
        "generation": "",
        "updated_at": MINUTE,
        "caused_by": f"event-{offset}",
        "source_partition": 0,
        "offset": offset,
        "items": [
            {
                "episode_id": episode,
                "title": episode.upper(),
                "show": "Show",
                "score": 0.5,
                "parts": {"als": 0.0, "content": 0.0, "trending": 1.0},
                "reason": "new",
            }
            for episode in episodes
        ],
    }


def window(episode: str, partition: int, offset: int, plays: int) -> dict[str, Any]:
    return {
        "episode_id": episode,
        "bucket": MINUTE,
        "source_partition": partition,
        "offset": offset,
        "impressions": 0,
        "clicks": 0,
        "plays": plays,
        "completes": 0,
        "heard_ms": plays * 1000,
        "streams": 0,
        "listeners": plays,
        "engaged": 0,
        "new_listeners": plays,
    }


def test_the_newest_list_of_a_listener_is_served(
    runtime: MemoryRuntime, database: Database[Document]
) -> None:
    runtime.log.append("recommendations", recommendation("u", "a"), key="u")
    runtime.log.append("recommendations", recommendation("u", "b", "c", offset=2), key="u")
    runtime.run()
    (document,) = database["final_recommendations"].find()
    assert document["_id"] == "u"
    assert [item["episode_id"] for item in document["items"]] == ["b", "c"]
    assert document["updated_at"] == MINUTE
    assert document["caused_by"] == "event-2"


def test_a_tombstone_removes_the_document_and_a_later_record_brings_it_back(
    runtime: MemoryRuntime, database: Database[Document]
) -> None:
    runtime.log.append("recommendations", recommendation("u", "a"), key="u")
    runtime.log.append("recommendations", None, key="u")
    runtime.run()
    assert database["final_recommendations"].count_documents({}) == 0
    runtime.log.append("recommendations", None, key="u")
    runtime.log.append("recommendations", recommendation("u", "d"), key="u")
    runtime.run()
    assert database["final_recommendations"].count_documents({}) == 1


def test_the_neighbours_of_an_episode_are_served_until_it_is_withdrawn(
    runtime: MemoryRuntime, database: Database[Document]
) -> None:
    def near(episode: str, *others: str) -> dict[str, Any]:
        told = [{"episode_id": other, "score": 0.5} for other in others]
        return {"episode_id": episode, "model": "m", "neighbours": told}

    for episode, others in (("a", "bc"), ("b", "a"), ("a", "cd")):
        runtime.log.append("episode-neighbours", near(episode, *others), key=episode)
    runtime.run()
    found = {d["_id"]: d for d in database["episode_neighbours"].find()}
    assert set(found) == {"a", "b"}
    assert [n["episode_id"] for n in found["a"]["neighbours"]] == ["c", "d"]
    assert found["a"]["neighbours"][0]["score"] == 0.5
    runtime.log.append("episode-neighbours", None, key="a")
    runtime.run()
    assert [d["_id"] for d in database["episode_neighbours"].find()] == ["b"]


def test_windows_add_up_over_source_partitions_after_a_crash(
    runtime: MemoryRuntime, database: Database[Document]
) -> None:
    def send(*rows: dict[str, Any]) -> None:
        runtime.log.append("engagement-windows", pl.DataFrame(rows), partition=1)

    send(window("a", 0, 5, 2), window("b", 0, 5, 1))
    send(window("a", 1, 3, 10))
    runtime.run()
    runtime.crash("serve_mongo", redeliver=2)
    send(window("a", 0, 8, 4))
    runtime.run()
    found = {d["_id"]: d for d in database["engagement_windows"].find()}
    assert found["a|2026-01-31T12:05Z"]["plays"] == 14
    assert found["a|2026-01-31T12:05Z"]["heard_ms"] == 14_000
    assert found["a|2026-01-31T12:05Z"]["listeners"] == 14
    assert found["a|2026-01-31T12:05Z"]["bucket"] == MINUTE
    assert found["b|2026-01-31T12:05Z"]["plays"] == 1


def rolling_rows(partition: int, listeners: int, *scopes: str, minutes: int = 15) -> pl.DataFrame:
    """Rows of `rolling_window`; a scope is written as `kind:name`."""
    rows = [
        {
            **dict.fromkeys(ROLLING_METRICS, listeners),
            "kind": scope.partition(":")[0],
            "scope": scope.partition(":")[2],
            "minutes": minutes,
            "at": MINUTE,
            "source_partition": partition,
            "offset": 1,
        }
        for scope in scopes
    ]
    return pl.DataFrame(rows, schema=columnar.columns("rolling_window"))


def scopes(database: Database[Document], document_id: str) -> list[tuple[str, str, int]]:
    document = next(database["rolling_windows"].find({"_id": document_id}))
    return [(one["scope"], one["title"], one["listeners"]) for one in document["scopes"]]


def test_rolling_windows_add_up_partitions_and_survive_a_restart(
    runtime: MemoryRuntime, database: Database[Document]
) -> None:
    def send(partition: int, listeners: int, *scopes: str) -> None:
        rows = rolling_rows(partition, listeners, *scopes)
        runtime.log.append("rolling-windows", rows, partition=partition)

    episode = {"episode_id": "a", "title": "T", "show_id": "s", "show_title": "S", "source": "x"}
    runtime.log.append("episode-metadata", episode, key="a")
    send(0, 1, "episode:a", "episode:b", "show:s", "category:Art")
    send(0, 2, "episode:a", "show:s", "category:Art")
    send(1, 3, "episode:a", "episode:c")
    runtime.run()
    assert database["rolling_windows"].count_documents({}) == 15
    assert scopes(database, "episode|15") == [("a", "T", 5), ("c", "", 3)]
    assert scopes(database, "show|15") == [("s", "S", 2)]
    assert scopes(database, "category|15") == [("Art", "Art", 2)]
    assert next(database["rolling_windows"].find({"_id": "show|15"}))["at"] == MINUTE
    runtime.crash("serve_mongo")
    send(1, 1, "episode:a")
    runtime.run()
    assert scopes(database, "episode|15") == [("a", "T", 3)]
    # a message of before the crash that comes again is older than what the server has
    runtime.crash("serve_mongo", redeliver=1)
    runtime.run(max_batch=1)
    assert scopes(database, "episode|15") == [("a", "T", 3)]


async def no_titles(_: Collection[str]) -> dict[str, Any]:
    return {}


async def test_workers_that_own_some_partitions_each_write_all_of_them(
    settings: Settings, database: Database[Document]
) -> None:
    sink = MongoSink(settings, GRAPH.stages["serve_mongo"])
    workers = [RollingWindows(sink, 2, no_titles) for _ in range(2)]

    async def serve(partition: int, offset: int, listeners: int) -> None:
        rows = rolling_rows(partition, listeners, "episode:a")
        await workers[partition].put({partition: RollingPart(offset, rows)})
        await sink.mark([Message("rolling-windows", partition, offset, None, b"")])

    await serve(0, 4, 10)
    await workers[0].refresh()
    await serve(1, 9, 100)
    await workers[1].refresh()
    assert scopes(database, "episode|15") == [("a", "", 110)]
    # the second worker does not write again, the first one finds what the second has left
    await serve(1, 10, 200)
    await workers[0].refresh()
    assert scopes(database, "episode|15") == [("a", "", 210)]


async def test_unchanged_rolling_windows_are_not_written_again(
    settings: Settings, database: Database[Document]
) -> None:
    sink = MongoSink(settings, GRAPH.stages["serve_mongo"])
    windows = RollingWindows(sink, 2, no_titles)
    await windows.put({0: RollingPart(1, rolling_rows(0, 5, "episode:a"))})
    await windows.refresh()
    database["rolling_windows"].delete_many({})
    await windows.put({0: RollingPart(2, rolling_rows(0, 5, "episode:a", "show:s"))})
    await windows.refresh()
    assert [document["_id"] for document in database["rolling_windows"].find()] == ["show|15"]


def day_row(partition: int, offset: int, downloads: int) -> pl.DataFrame:
    row = {
        **dict.fromkeys(DAY_METRICS, 1),
        "episode_id": "a",
        "day": MINUTE.date(),
        "source_partition": partition,
        "offset": offset,
        "final": False,
        "downloads": downloads,
    }
    return pl.DataFrame([row], schema=columnar.columns("episode_day"))


def curve_rows(partition: int, offset: int, *listeners: int) -> pl.DataFrame:
    rows = [
        {
            "episode_id": "a",
            "day": MINUTE.date(),
            "minute": minute,
            "source_partition": partition,
            "offset": offset,
            "final": False,
            "listeners": count,
        }
        for minute, count in enumerate(listeners)
    ]
    return pl.DataFrame(rows, schema=columnar.columns("episode_retention"))


def test_a_day_of_an_episode_holds_counts_and_curve_of_every_partition(
    runtime: MemoryRuntime, database: Database[Document]
) -> None:
    for partition in (0, 1):
        days = day_row(partition, 5, 10 + partition)
        runtime.log.append("episode-days", days, partition=partition)
        curve = curve_rows(partition, 5, 9, 4)
        runtime.log.append("episode-retention", curve, partition=partition)
    runtime.run()
    runtime.crash("serve_mongo", redeliver=1)
    runtime.log.append("episode-days", day_row(1, 8, 20), partition=1)
    runtime.log.append("episode-retention", curve_rows(1, 8, 11, 4, 1), partition=1)
    runtime.run()
    (document,) = database["episode_days"].find()
    assert document["_id"] == "a|2026-01-31"
    assert document["day"] == datetime(2026, 1, 31, tzinfo=UTC)
    assert (document["downloads"], document["plays"]) == (30, 2)
    assert document["retention"] == [20, 8, 1]


async def test_two_workers_that_change_a_day_at_once_lose_nothing(
    settings: Settings, database: Database[Document]
) -> None:
    runtimes = [MemoryRuntime(GRAPH, settings) for _ in range(2)]
    handlers = [runtime.start("serve_mongo").agents["episode-days"].handle for runtime in runtimes]

    async def serve(worker: int) -> None:
        log = runtimes[worker].log
        for offset in range(20):
            rows = day_row(worker, offset, offset)
            await handlers[worker]([log.append("episode-days", rows, partition=worker)])

    await asyncio.gather(serve(0), serve(1))
    (document,) = database["episode_days"].find()
    assert document["downloads"] == 38
    assert {place: part["offset"] for place, part in document["parts"].items()} == {
        "0": 19,
        "1": 19,
    }


def total_rows(partition: int, offset: int, *minutes: tuple[int, int]) -> pl.DataFrame:
    """Rows of (minutes after MINUTE, plays)."""
    rows = [
        {
            **dict.fromkeys(ADDITIVE_METRICS, plays),
            "bucket": MINUTE + timedelta(minutes=after),
            "source_partition": partition,
            "offset": offset,
        }
        for after, plays in minutes
    ]
    return pl.DataFrame(rows, schema=columnar.columns("engagement_total"))


def test_an_hour_holds_the_sums_of_every_minute_and_partition(
    runtime: MemoryRuntime, database: Database[Document]
) -> None:
    for partition in (0, 1):
        rows = total_rows(partition, 5, (0, 3), (partition, 10), (60, 1))
        runtime.log.append("engagement-totals", rows[partition:], partition=partition)
    runtime.run()
    runtime.crash("serve_mongo", redeliver=1)
    runtime.log.append("engagement-totals", total_rows(1, 8, (1, 20)), partition=1)
    runtime.log.append("engagement-totals", total_rows(1, 7, (1, 15)), partition=1)
    runtime.run()
    documents = {document["_id"]: document for document in database["engagement_totals"].find()}
    assert sorted(documents) == ["2026-01-31T12Z", "2026-01-31T13Z"]
    hour = documents["2026-01-31T12Z"]
    assert hour["hour"] == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert {minute: sums["plays"] for minute, sums in hour["minutes"].items()} == {
        "05": 10,
        "06": 20,
    }
    assert hour["minutes"]["06"] == dict.fromkeys(ADDITIVE_METRICS, 20)
    assert hour["first"] == {"0": 5, "1": 6}
    assert documents["2026-01-31T13Z"]["minutes"]["05"]["plays"] == 2


async def test_two_workers_that_change_an_hour_at_once_lose_nothing(
    settings: Settings, database: Database[Document]
) -> None:
    runtimes = [MemoryRuntime(GRAPH, settings) for _ in range(2)]
    handlers = [
        runtime.start("serve_mongo").agents["engagement-totals"].handle for runtime in runtimes
    ]

    async def serve(worker: int) -> None:
        log = runtimes[worker].log
        for offset in range(20):
            rows = total_rows(worker, offset, (0, offset), (offset % 3, offset))
            await handlers[worker]([log.append("engagement-totals", rows, partition=worker)])

    await asyncio.gather(serve(0), serve(1))
    (document,) = database["engagement_totals"].find()
    plays = {minute: sums["plays"] for minute, sums in document["minutes"].items()}
    assert plays == {"05": 38, "06": 38, "07": 34}


def test_anomalies_and_progress_are_kept_by_key(
    runtime: MemoryRuntime, database: Database[Document]
) -> None:
    for plays, direction in ((9, "rise"), (10, "rise")):
        anomaly = {
            "episode_id": "a",
            "at": MINUTE,
            "direction": direction,
            "plays": plays,
            "expected": 1.5,
            "score": 6.0,
        }
        runtime.log.append("episode-anomalies", anomaly, key="a|x")
    for late in (0, 4):
        progress = {
            "stage": "track_engagement",
            "source_partition": 0,
            "offset": 10 + late,
            "watermark": MINUTE,
            "late": late,
            "events": 11 + late,
        }
        runtime.log.append("table-progress", progress, key="track_engagement|0")
    runtime.run()
    (anomaly,) = database["episode_anomalies"].find()
    assert (anomaly["_id"], anomaly["plays"]) == ("a|2026-01-31T12:05Z", 10)
    (progress,) = database["table_progress"].find()
    assert (progress["_id"], progress["late"]) == ("track_engagement|0", 4)


def test_trending_carries_titles_and_survives_a_restart(
    runtime: MemoryRuntime, database: Database[Document]
) -> None:
    episode = {"episode_id": "a", "title": "T", "show_id": "s", "show_title": "S", "source": "x"}

    def rank(partition: int, episode_id: str, score: float) -> None:
        places = [{"episode_id": episode_id, "score": score, "plays": 1}]
        record = {"scope": "all", "source_partition": partition, "at": MINUTE, "episodes": places}
        runtime.log.append("trending-episodes", record, key=f"all|{partition}")

    runtime.log.append("episode-metadata", episode, key="a")
    runtime.run()
    rank(0, "a", 1.0)
    runtime.run()
    runtime.crash("serve_mongo")
    rank(1, "b", 2.0)
    runtime.run()
    (document,) = database["trending_episodes"].find()
    assert [(p["episode_id"], p["title"]) for p in document["episodes"]] == [("b", ""), ("a", "T")]
    assert next(database["episodes"].find({"_id": "a"}))["show_title"] == "S"
    runtime.log.append("episode-metadata", None, key="a")
    runtime.run()
    rank(0, "a", 3.0)
    runtime.run()
    (document,) = database["trending_episodes"].find()
    assert [(p["episode_id"], p["title"]) for p in document["episodes"]] == [("a", ""), ("b", "")]
    assert database["episodes"].count_documents({}) == 0


def test_metrics_and_generations_are_kept_by_key(
    runtime: MemoryRuntime, database: Database[Document]
) -> None:
    for value in (0.1, 0.2):
        metric = {"model": "als", "generation": "g", "metric": "auc", "value": value, "at": MINUTE}
        runtime.log.append("model-metrics", metric, key="als|g|auc")
    promoted = {
        "table": "live",
        "generation": 2,
        "digest": "d",
        "promoted_at": MINUTE + timedelta(hours=1),
        "offsets": [{"source_partition": 0, "offset": 4}],
    }
    runtime.log.append("table-generations", promoted, key="live")
    for because in ("", "worse"):
        training = {
            "generation": "g", "model": "als", "items": 1, "users": 1, "interactions": 1, "rank": 2,
            "alpha": 1.0, "regularization": 0.1, "seed": 0, "offsets": [], "trained_at": MINUTE,
            "train_seconds": 1.0, "metrics": {}, "refused_because": because,
        }  # fmt: skip
        runtime.log.append("model-generations", training, key="g")
    refusal = {
        "generation": "h", "refused_by": "recommend", "refused_because": "NaN",
        "announced_at": MINUTE,
    }  # fmt: skip
    runtime.log.append("generation-refusals", refusal, key="h")
    runtime.run()
    (training,) = database["model_generations"].find()
    assert (training["_id"], training["refused_because"]) == ("g", "worse")
    (told,) = database["generation_refusals"].find()
    assert (told["_id"], told["refused_because"]) == ("h", "NaN")
    (metric,) = database["model_metrics"].find()
    assert (metric["_id"], metric["value"]) == ("als|g|auc", 0.2)
    assert next(database["table_generations"].find({"_id": "live"}))["generation"] == 2


def test_garbage_goes_to_the_dead_letter_topic_and_the_rest_is_served(
    runtime: MemoryRuntime, database: Database[Document]
) -> None:
    runtime.log.append("recommendations", b"garbage", key="u", partition=0)
    runtime.log.append("engagement-windows", b"garbage", partition=0)
    runtime.log.append("recommendations", recommendation("v", "a"), key="v", partition=0)
    runtime.run()
    assert [m.value for m in runtime.log.records("recommendations.dlq")] == [b"garbage"]
    assert [m.value for m in runtime.log.records("engagement-windows.dlq")] == [b"garbage"]
    assert database["final_recommendations"].count_documents({}) == 1


def test_a_stage_writes_only_its_own_collections(settings: Settings) -> None:
    sink = MongoSink(settings, GRAPH.stages["dashboard"])
    with pytest.raises(UndeclaredError, match="engagement_windows"):
        asyncio.run(sink.replace("engagement_windows", [{"_id": "x"}]))
    sink.close()


def test_writes_wait_for_a_server_that_is_away_and_say_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (port,) = free_ports(1)
    sink = MongoSink(
        settings_for(f"mongodb://127.0.0.1:{port}", tmp_path), GRAPH.stages["serve_mongo"]
    )

    async def outage() -> dict[str, Any]:
        writes = [
            asyncio.create_task(sink.replace("episodes", [{"_id": name, "title": name}]))
            for name in "ab"
        ]
        while "away" not in caplog.text:
            await asyncio.sleep(0.05)
        with running_mongo(tmp_path, port):
            await asyncio.gather(*writes)
            return await sink.find("episodes", ["a", "b", "c"])

    with caplog.at_level(logging.WARNING, logger="streams.serving.mongo.mongo"):
        found = asyncio.run(outage())
    sink.close()
    assert set(found) == {"a", "b"}
    assert sum("away" in record.message for record in caplog.records) == 1


def served(offset: int) -> list[Message]:
    return [Message("recommendations", 3, offset, b"anna", b"value")]


async def test_writes_that_the_server_still_has_are_confirmed(settings: Settings) -> None:
    sink = MongoSink(settings, GRAPH.stages["serve_mongo"])
    await sink.mark(served(7))
    await sink.mark(served(8))
    await sink.confirm(served(7))
    await sink.confirm(served(8))
    with pytest.raises(LostWritesError, match=r"recommendations\|3@9"):
        await sink.confirm(served(9))


async def test_a_server_that_lost_its_newest_writes_is_found_out(
    settings: Settings, database: Database[Document]
) -> None:
    """Also when later writes have put a newer mark in the place of the lost one."""
    sink = MongoSink(settings, GRAPH.stages["serve_mongo"])
    await sink.mark(served(7))
    database["serving_progress"].replace_one({"_id": "recommendations|3"}, {"offset": 5})
    with pytest.raises(LostWritesError):
        await sink.confirm(served(7))
    with pytest.raises(LostWritesError):
        await sink.mark(served(8))
    sink.forget_marks()
    await sink.mark(served(8))
