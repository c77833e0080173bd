"""serve_mongo in memory against the real embedded MongoDB server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import polars as pl
import pytest
from pydantic import SecretStr
from pymongo import MongoClient

from streams.context import Message
from streams.memory import MemoryRuntime
from streams.sinks.mongo import LostWritesError, MongoSink
from topology.embedded.mongo import running_mongo
from topology.embedded.ports import free_ports
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
def database(settings: Settings) -> Iterator:
    with MongoClient(settings.mongodb_uri.get_secret_value(), tz_aware=True) as client:
        yield client[settings.mongodb_database]


@pytest.fixture
def runtime(settings: Settings) -> MemoryRuntime:
    runtime = MemoryRuntime(GRAPH, settings)
    runtime.start("serve_mongo")
    return runtime


def recommendation(user: str, *episodes: str, offset: int = 1) -> dict:
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


def window(episode: str, partition: int, offset: int, plays: int) -> dict:
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
    }


def test_the_newest_list_of_a_listener_is_served(runtime, database):
    runtime.log.append("recommendations", recommendation("u", "a"), key="u")
    runtime.log.append("recommendations", recommendation("u", "b", "c", offset=2), key="u")
    runtime.run()
    (document,) = database["final_recommendations"].find()
    assert document["_id"] == "u"
    assert [item["episode_id"] for item in document["items"]] == ["b", "c"]
    assert document["updated_at"] == MINUTE
    assert document["caused_by"] == "event-2"


def test_a_tombstone_removes_the_document_and_a_later_record_brings_it_back(runtime, database):
    runtime.log.append("recommendations", recommendation("u", "a"), key="u")
    runtime.log.append("recommendations", None, key="u")
    runtime.run()
    assert database["final_recommendations"].count_documents({}) == 0
    runtime.log.append("recommendations", None, key="u")
    runtime.log.append("recommendations", recommendation("u", "d"), key="u")
    runtime.run()
    assert database["final_recommendations"].count_documents({}) == 1


def test_windows_add_up_over_source_partitions_after_a_crash(runtime, database):
    def send(*rows: dict) -> None:
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
    assert found["a|2026-01-31T12:05Z"]["bucket"] == MINUTE
    assert found["b|2026-01-31T12:05Z"]["plays"] == 1


def test_trending_carries_titles_and_survives_a_restart(runtime, database):
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
    assert database["episodes"].find_one({"_id": "a"})["show_title"] == "S"


def test_metrics_and_generations_are_kept_by_key(runtime, database):
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
    runtime.run()
    (metric,) = database["model_metrics"].find()
    assert (metric["_id"], metric["value"]) == ("als|g|auc", 0.2)
    assert database["table_generations"].find_one({"_id": "live"})["generation"] == 2


def test_garbage_goes_to_the_dead_letter_topic_and_the_rest_is_served(runtime, database):
    runtime.log.append("recommendations", b"garbage", key="u", partition=0)
    runtime.log.append("engagement-windows", b"garbage", partition=0)
    runtime.log.append("recommendations", recommendation("v", "a"), key="v", partition=0)
    runtime.run()
    assert [m.value for m in runtime.log.records("recommendations.dlq")] == [b"garbage"]
    assert [m.value for m in runtime.log.records("engagement-windows.dlq")] == [b"garbage"]
    assert database["final_recommendations"].count_documents({}) == 1


def test_a_stage_writes_only_its_own_collections(settings):
    sink = MongoSink(settings, GRAPH.stages["dashboard"])
    with pytest.raises(UndeclaredError, match="engagement_windows"):
        asyncio.run(sink.replace("engagement_windows", [{"_id": "x"}]))
    sink.close()


def test_writes_wait_for_a_server_that_is_away_and_say_so_once(tmp_path, caplog):
    (port,) = free_ports(1)
    sink = MongoSink(
        settings_for(f"mongodb://127.0.0.1:{port}", tmp_path), GRAPH.stages["serve_mongo"]
    )

    async def outage() -> dict:
        writes = [
            asyncio.create_task(sink.replace("episodes", [{"_id": name, "title": name}]))
            for name in "ab"
        ]
        while "away" not in caplog.text:
            await asyncio.sleep(0.05)
        with running_mongo(tmp_path, port):
            await asyncio.gather(*writes)
            return await sink.find("episodes", ["a", "b", "c"])

    with caplog.at_level(logging.WARNING, logger="streams.sinks.mongo"):
        found = asyncio.run(outage())
    sink.close()
    assert set(found) == {"a", "b"}
    assert sum("away" in record.message for record in caplog.records) == 1


def served(offset: int) -> list[Message]:
    return [Message("recommendations", 3, offset, b"anna", b"value")]


async def test_writes_that_the_server_still_has_are_confirmed(settings: Settings):
    sink = MongoSink(settings, GRAPH.stages["serve_mongo"])
    await sink.mark(served(7))
    await sink.mark(served(8))
    await sink.confirm(served(7))
    await sink.confirm(served(8))
    with pytest.raises(LostWritesError, match=r"recommendations\|3@9"):
        await sink.confirm(served(9))


async def test_a_server_that_lost_its_newest_writes_is_found_out(settings: Settings, database):
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
