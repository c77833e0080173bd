"""The read API where MongoDB is away, and what it says of bad input and of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from streams.api import models
from streams.api.documents import Documents
from streams.api.read_api import STAGE, create_app
from streams.cli.local.ports import free_ports
from topology.graph import UndeclaredError, build_graph
from topology.settings import Settings

LOCAL = "http://127.0.0.1"
GRAPH = build_graph(2)


def settings_of(home: Path, token: str = "") -> Settings:
    """Those of an instance whose MongoDB does not run."""
    (port,) = free_ports(1)
    return Settings(
        podstream_home=home,
        mongodb_uri=SecretStr(f"mongodb://127.0.0.1:{port}"),
        api_token=SecretStr(token),
    )


def client_of(settings: Settings) -> TestClient:
    documents = Documents(settings, GRAPH.stages[STAGE])
    return TestClient(create_app(settings, documents), LOCAL)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with client_of(settings_of(tmp_path)) as client:
        yield client


def test_there_is_an_answer_where_nothing_is_known_and_it_says_so(client: TestClient) -> None:
    answer = client.get("/v1/listeners/anna/recommendations")
    assert answer.status_code == 200
    told = models.Recommendations.model_validate_json(answer.content)
    assert (told.source, told.items, told.stale) == ("trending", [], True)
    told_of_trends = models.Trending.model_validate_json(client.get("/v1/trending").content)
    assert told_of_trends.stale
    similar = models.Similar.model_validate_json(client.get("/v1/episodes/a/similar").content)
    assert similar.stale


def test_nobody_waits_for_a_server_that_is_away(client: TestClient) -> None:
    while client.get("/v1/health").json()["mongodb"] == "ok":
        time.sleep(0.05)
    began = time.perf_counter()
    for number in range(50):
        assert client.get(f"/v1/listeners/u{number}/recommendations").status_code == 200
    assert time.perf_counter() - began < 2.5  # ten times 0.25 s would be the wait for ten of them


def test_statistics_that_nobody_has_are_not_made_up(client: TestClient) -> None:
    for path in ("/v1/episodes/a/stats", "/v1/shows/a/stats"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "MongoDB is away" in models.Problem.model_validate_json(answer.content).error


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/v1/listeners/a/recommendations?count=0", "count"),
        ("/v1/listeners/a/recommendations?count=101", "count"),
        ("/v1/listeners/a/recommendations?count=many", "count"),
        ("/v1/listeners/a/recommendations?language=e_n", "language"),
        ("/v1/listeners/a/recommendations?explicit=perhaps", "explicit"),
        (f"/v1/listeners/{'a' * 1025}/recommendations", "user_id"),
        ("/v1/episodes/a/similar?category=", "category"),
        ("/v1/trending?scope=everything", "scope"),
    ],
)
def test_bad_input_gets_one_sentence_that_names_it(
    client: TestClient, path: str, word: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == 422
    assert word in models.Problem.model_validate_json(answer.content).error


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/v1/nothing", 404), ("POST", "/v1/trending", 405), ("GET", "/v1/episodes//x", 404)],
)
def test_what_is_not_there_says_so(client: TestClient, method: str, path: str, code: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == code
    assert models.Problem.model_validate_json(answer.content).error


def test_pages_of_strangers_do_not_reach_it_by_a_name_of_theirs(client: TestClient) -> None:
    refused = client.get("/v1/trending", headers={"Host": "evil.example"})
    assert refused.status_code == 400
    assert models.Problem.model_validate_json(refused.content).error
    for host in ("localhost:19096", "[::1]:19096", "127.0.0.2"):
        assert client.get("/v1/trending", headers={"Host": host}).status_code == 200


def test_a_token_is_wanted_of_everything_but_health(tmp_path: Path) -> None:
    with client_of(settings_of(tmp_path, "secret")) as client:
        refused = client.get("/v1/trending")
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert "API_TOKEN" in models.Problem.model_validate_json(refused.content).error
        given = {"Authorization": "Bearer secret"}
        assert client.get("/v1/trending", headers=given).status_code == 200
        health = models.Health.model_validate_json(client.get("/v1/health").content)
        assert health.status in ("ok", "degraded")


def test_the_page_of_the_api_asks_nobody_else_and_lists_every_route(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200
    told = client.get("/openapi.json").json()
    assert sorted(told["paths"]) == [
        "/v1/episodes/{episode_id}/similar",
        "/v1/episodes/{episode_id}/stats",
        "/v1/health",
        "/v1/listeners/{user_id}",
        "/v1/listeners/{user_id}/recommendations",
        "/v1/shows/{show_id}/stats",
        "/v1/trending",
    ]
    for path in told["paths"].values():
        assert all(route["description"] for route in path.values())


def test_a_request_that_the_log_does_not_take_is_refused(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "secret")
    (port,) = free_ports(1)
    away = settings.model_copy(update={"kafka_bootstrap_servers": f"127.0.0.1:{port}"})
    with client_of(away) as client:
        assert client.delete("/v1/listeners/ada").status_code == 401
        given = {"Authorization": "Bearer secret"}
        refused = client.delete("/v1/listeners/a%01b", headers=given)
        assert (refused.status_code, refused.json()["error"]) == (
            422,
            "user_id has control characters.",
        )
        answer = client.delete("/v1/listeners/ada", headers=given)
        assert answer.status_code == 503
        assert "nothing was asked" in models.Problem.model_validate_json(answer.content).error


async def test_only_collections_of_the_stage_are_read(tmp_path: Path) -> None:
    documents = Documents(settings_of(tmp_path), GRAPH.stages[STAGE])
    with pytest.raises(UndeclaredError):
        await documents.find("model_metrics", ["x"])
    await documents.close()
