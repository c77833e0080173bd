"""The read API over the real embedded MongoDB server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.database import Database

from schemas.metrics import DAY_METRICS, ROLLING_METRICS
from streams.api import models
from streams.api.documents import FRESH_S, USABLE_S, Documents
from streams.api.read_api import STAGE, create_app
from streams.cli.local.mongo import running_mongo
from streams.cli.local.ports import free_ports
from topology.graph import build_graph
from topology.settings import Settings

pytestmark = pytest.mark.mongo

LOCAL = "http://127.0.0.1"
NOON = datetime(2026, 3, 2, 12, 5, tzinfo=UTC)
GRAPH = build_graph(2)
READ_API = GRAPH.stages[STAGE]


def episode(name: str, **known: Any) -> dict[str, Any]:
    return {
        "_id": name,
        "episode_id": name,
        "title": f"Title {name}",
        "show_id": "show/1",
        "show_title": "A show",
        "description": "long",
        "categories": ["Comedy"],
        "language": "en",
        "published_at": NOON,
        "duration_s": 60,
        "explicit": False,
        "enclosure_url": "https://example/a.mp3",
        "image_url": "",
        "link": "",
        **known,
    }


def list_of(user: str, *episodes: str) -> dict[str, Any]:
    items = [
        {
            "episode_id": name,
            "title": f"Old title {name}",
            "show": "A show",
            "score": 0.5,
            "parts": {"als": 0.5, "content": 0.4, "trending": 0.3},
            "reason": "People who listen like you",
        }
        for name in episodes
    ]
    return {
        "_id": user,
        "items": items,
        "generation": "g1",
        "updated_at": NOON,
        "caused_by": "event",
    }


def ranking(scope: str, *episodes: str) -> dict[str, Any]:
    figures = {"score": 1.0, "plays": 2, "recent": 1, "usual": 0.5, "rise": 1.3}
    places = [{"episode_id": name, "title": "", "show": "", **figures} for name in episodes]
    return {"_id": scope, "scope": scope, "at": NOON, "episodes": places, "parts": {}}


def fill(database: Database[dict[str, Any]]) -> None:
    database["episodes"].insert_many(
        [
            episode("a"),
            episode("b", language="de", categories=["News"]),
            episode("c", explicit=True),
            episode("guid/with slash"),
        ]
    )
    database["final_recommendations"].insert_many(
        [list_of("anna", "b", "c", "unknown", "a"), list_of("per/haps", "a")]
    )
    near = [{"episode_id": name, "score": 0.5} for name in ("c", "a")]
    database["episode_neighbours"].insert_one({"_id": "b", "model": "m", "neighbours": near})
    database["trending_episodes"].insert_many(
        [ranking("all", "c", "a", "b"), ranking("category:News", "b")]
    )
    counts = dict.fromkeys(ROLLING_METRICS, 3)
    database["rolling_windows"].insert_many(
        [
            {
                "_id": f"{kind}|{minutes}",
                "kind": kind,
                "minutes": minutes,
                "at": NOON,
                "scopes": [{"scope": scope, "title": "", **counts}],
            }
            for kind, scope in (("episode", "guid/with slash"), ("show", "show/1"))
            for minutes in (1, 5, 15, 60, 1440)
        ]
    )
    day = {"day": NOON.replace(hour=0, minute=0), "final": False, "retention": [3, 2]}
    database["episode_days"].insert_one(
        {"_id": "guid/with slash|2026-03-02", **day, **dict.fromkeys(DAY_METRICS, 7)}
    )


@pytest.fixture
def settings(mongo_uri: str, tmp_path: Path) -> Settings:
    return Settings(
        podstream_home=tmp_path,
        mongodb_uri=SecretStr(mongo_uri),
        mongodb_database=f"t{uuid4().hex[:8]}",
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as mongo:
        fill(mongo[settings.mongodb_database])
    with TestClient(create_app(settings, Documents(settings, READ_API)), LOCAL) as client:
        yield client


def recommended(client: TestClient, user: str, query: str = "") -> models.Recommendations:
    answer = client.get(f"/v1/listeners/{user}/recommendations{query}")
    assert answer.status_code == 200, answer.text
    return models.Recommendations.model_validate_json(answer.content)


def ids(answer: Any) -> list[str]:
    return [item.episode_id for item in answer.items]


def test_a_listener_s_list_is_served_with_what_the_catalogue_knows(client: TestClient) -> None:
    told = recommended(client, "anna", "?count=3")
    assert (told.source, told.stale, told.generation) == ("personal", False, "g1")
    assert ids(told) == ["b", "c", "unknown"]
    assert told.items[0].title == "Title b"
    assert told.items[2].title == "Old title unknown"
    assert told.items[0].parts is not None
    assert told.updated_at == NOON
    assert [row.episode_ids for row in told.rows] == [["b", "c", "unknown"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?language=en", ["c", "a"]),
        ("?language=en&explicit=false", ["a"]),
        ("?explicit=true", ["c"]),
        ("?category=news", ["b"]),
    ],
)
def test_filters_leave_out_what_was_not_asked_for(
    client: TestClient, query: str, expected: list[str]
) -> None:
    told = recommended(client, "anna", query)
    assert told.source == "personal"
    assert ids(told) == expected


def test_who_is_unknown_or_has_nothing_left_gets_what_is_trending(client: TestClient) -> None:
    told = recommended(client, "nobody")
    assert (told.source, ids(told), told.generation) == ("trending", ["c", "a", "b"], None)
    told = recommended(client, "per/haps", "?category=News")
    assert (told.source, ids(told)) == ("trending", ["b"])
    assert not told.stale


def test_similar_episodes_are_told_nearest_first_else_trending_ones(client: TestClient) -> None:
    told = models.Similar.model_validate_json(client.get("/v1/episodes/b/similar").content)
    assert (told.source, ids(told), told.items[0].title) == ("similar", ["c", "a"], "Title c")
    told = models.Similar.model_validate_json(client.get("/v1/episodes/a/similar").content)
    assert (told.source, ids(told)) == ("trending", ["c", "a", "b"])


def test_trending_is_told_by_scope(client: TestClient) -> None:
    told = models.Trending.model_validate_json(client.get("/v1/trending?count=2").content)
    assert (told.at, ids(told)) == (NOON, ["c", "a"])
    told = models.Trending.model_validate_json(
        client.get("/v1/trending?scope=category:News").content
    )
    assert (ids(told), told.items[0].rise) == (["b"], 1.3)
    told = models.Trending.model_validate_json(
        client.get("/v1/trending?scope=category:Nothing").content
    )
    assert (told.items, told.stale) == ([], False)


def test_statistics_of_episodes_and_shows(client: TestClient) -> None:
    """Their ids may hold slashes."""
    answer = client.get("/v1/episodes/guid%2Fwith%20slash/stats")
    told = models.EpisodeStats.model_validate_json(answer.content)
    assert (told.title, told.at) == ("Title guid/with slash", NOON)
    assert [window.minutes for window in told.windows] == [1, 5, 15, 60, 1440]
    assert all(window.counts and window.counts.plays == 3 for window in told.windows)
    assert [(day.day.isoformat(), day.downloads) for day in told.days] == [("2026-03-02", 7)]
    quiet = models.EpisodeStats.model_validate_json(client.get("/v1/episodes/a/stats").content)
    assert quiet.days == []
    assert quiet.windows[0].counts is not None
    assert quiet.windows[0].counts.plays == 0
    show = models.ShowStats.model_validate_json(client.get("/v1/shows/show/1/stats").content)
    assert show.title == "A show"
    assert show.windows[0].counts is not None
    for path in ("/v1/episodes/x/stats", "/v1/shows/x/stats"):
        assert client.get(path).status_code == 404


def test_health_is_well_while_mongodb_answers(client: TestClient) -> None:
    client.get("/v1/trending")
    assert client.get("/v1/health").json()["status"] == "ok"


async def test_a_document_is_asked_for_again_once_it_is_old(settings: Settings) -> None:
    moment = [100.0]
    documents = Documents(settings, READ_API, clock=lambda: moment[0])
    with MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as mongo:
        kept = mongo[settings.mongodb_database]["final_recommendations"]
        kept.insert_one(list_of("u", "a"))

        async def first() -> str:
            found = await documents.find("final_recommendations", ["u"])
            assert not found.stale
            return str(found.documents["u"]["items"][0]["episode_id"])

        assert await first() == "a"
        kept.replace_one({"_id": "u"}, list_of("u", "b"))
        assert await first() == "a"
        moment[0] += FRESH_S + 0.1  # good enough for now, and asked for meanwhile
        assert await first() == "a"
        while await first() == "a":
            await asyncio.sleep(0.01)
        kept.replace_one({"_id": "u"}, list_of("u", "c"))
        moment[0] += USABLE_S + 0.1
        assert await first() == "c"
    await documents.close()


async def test_memory_stays_within_its_bounds(settings: Settings) -> None:
    with MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as mongo:
        kept = mongo[settings.mongodb_database]["final_recommendations"]
        kept.insert_many([list_of(f"u{number}", *"abcdefgh") for number in range(40)])
    documents = Documents(settings, READ_API, memory_bytes=20_000)
    for number in range(40):
        found = await documents.find("final_recommendations", [f"u{number}"])
        assert found.documents
    assert 2 <= documents.remembered < 20
    for number in range(400):  # what there is not is remembered too, and takes room
        await documents.find("final_recommendations", [f"nobody{number}"])
    assert 2 <= documents.remembered < 40
    await documents.close()


def test_while_mongodb_is_away_memory_answers_and_says_so(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    settings = Settings(
        podstream_home=tmp_path, mongodb_uri=SecretStr(f"mongodb://127.0.0.1:{port}")
    )
    moment = [100.0]
    documents = Documents(settings, READ_API, clock=lambda: moment[0])
    with TestClient(create_app(settings, documents), LOCAL) as client:
        with running_mongo(tmp_path, port) as uri:
            with MongoClient[dict[str, Any]](uri) as mongo:
                fill(mongo[settings.mongodb_database])
            assert not recommended(client, "anna").stale
            recommended(client, "nobody")
        moment[0] += 60
        told = recommended(client, "anna")
        assert (told.stale, told.source, ids(told)[0]) == (True, "personal", "b")
        told = recommended(client, "nobody")
        assert (told.stale, told.source, ids(told)) == (True, "trending", ["c", "a", "b"])
        while client.get("/v1/health").json()["status"] == "ok":
            moment[0] += 1
        with running_mongo(tmp_path, port):
            moment[0] += 60
            while recommended(client, "anna").stale:
                moment[0] += 2
            assert client.get("/v1/health").json()["status"] == "ok"
