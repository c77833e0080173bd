"""Readers follow the pointer: each answer and each page is of one version, whichever it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import streamlit as st
from fastapi.testclient import TestClient
from pydantic import SecretStr
from pymongo import MongoClient
from streamlit.testing.v1 import AppTest

from dashboard import sources
from schemas.metrics import DAY_METRICS, ROLLING_METRICS
from streams.api.documents import Documents
from streams.api.read_api import STAGE, create_app
from tests.waiting import wait_until
from topology.graph import build_graph
from topology.settings import Settings, get_settings
from topology.versions import beside

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOCAL = "http://localhost"

pytestmark = pytest.mark.mongo


@pytest.fixture
def settings(mongo_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    name = f"t{uuid4().hex[:8]}"
    for variable, value in {
        "PODSTREAM_HOME": str(tmp_path),
        "MONGODB_URI": mongo_uri,
        "MONGODB_DATABASE": name,
    }.items():
        monkeypatch.setenv(variable, value)
    _forget()
    yield Settings(podstream_home=tmp_path, mongodb_uri=SecretStr(mongo_uri), mongodb_database=name)
    sources.database(name).client.close()
    _forget()


def _forget() -> None:
    get_settings.cache_clear()
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def mongo(settings: Settings) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client:
        for version, number in (("", 1), ("v2", 2)):
            fill(client, beside(settings.mongodb_database, version), number)
        yield client


def fill(client: MongoClient[dict[str, Any]], name: str, number: int) -> None:
    """An episode of which every number of a version is the same."""
    database = client[name]
    database["episodes"].insert_one({"_id": "a", "title": "A", "show_id": "s", "show_title": "S"})
    database["rolling_windows"].insert_many(
        {
            "_id": f"episode|{minutes}",
            "minutes": minutes,
            "at": NOON,
            "scopes": [{"scope": "a", "title": "", **dict.fromkeys(ROLLING_METRICS, number)}],
        }
        for minutes in (1, 5, 15, 60, 1440)
    )
    day = {"day": NOON.replace(hour=0), "final": False, "retention": [number]}
    database["episode_days"].insert_one(
        {"_id": "a|2026-03-02", "episode_id": "a", **day, **dict.fromkeys(DAY_METRICS, number)}
    )


def point(client: MongoClient[dict[str, Any]], first: str, version: str) -> None:
    told = {"_id": "live", "version": version, "database": beside(first, version)}
    client[first]["served_version"].replace_one({"_id": "live"}, told, upsert=True)


def numbers_of(api: TestClient) -> set[int]:
    """Every number of the episode's answer."""
    told = api.get("/v1/episodes/a/stats").json()
    windows = {window["counts"]["streams"] for window in told["windows"]}
    return windows | {day["streams"] for day in told["days"]}


def test_an_answer_is_of_one_version_while_the_pointer_moves(
    settings: Settings, mongo: MongoClient[dict[str, Any]]
) -> None:
    first, stop = settings.mongodb_database, threading.Event()

    def move() -> None:
        for turn in range(1_000_000):
            point(mongo, first, ("v2", "")[turn % 2])
            if stop.wait(0.3):
                return

    documents = Documents(settings, build_graph(1).stages[STAGE])
    with TestClient(create_app(settings, documents), LOCAL) as api:
        assert numbers_of(api) == {1}
        moving = threading.Thread(target=move)
        moving.start()
        seen: list[int] = []
        try:
            deadline = time.monotonic() + 30
            while len(seen) < 200 or len(set(seen)) < 2:
                assert time.monotonic() < deadline, seen
                (number,) = numbers_of(api)  # one version whole
                seen.append(number)
        finally:
            stop.set()
            moving.join()
        point(mongo, first, "v2")
        wait_until(lambda: numbers_of(api) == {2}, 10, "the version that was promoted")
        point(mongo, first, "")
        wait_until(lambda: numbers_of(api) == {1}, 10, "the version that was taken back")


def test_without_a_server_the_version_served_last_is_answered(
    settings: Settings, mongo: MongoClient[dict[str, Any]]
) -> None:
    nowhere = settings.model_copy(update={"mongodb_uri": SecretStr("mongodb://127.0.0.1:9")})
    documents = Documents(nowhere, build_graph(1).stages[STAGE])
    with TestClient(create_app(nowhere, documents), LOCAL) as api:
        assert api.get("/v1/episodes/a/stats").status_code == 503


def page() -> None:
    """What a page asks, more than once."""
    import streamlit

    from dashboard import sources as asked

    asked.tell_version()
    streamlit.text(asked.database().name)
    streamlit.text(asked.answer("name", lambda database: database.name))


def test_a_page_is_run_anew_once_the_pointer_has_moved(
    settings: Settings, mongo: MongoClient[dict[str, Any]]
) -> None:
    first = settings.mongodb_database

    def shown() -> list[str]:
        app.run()
        assert not app.exception
        return [text.value for text in app.text]

    app = AppTest.from_function(page)
    assert shown() == [first, first]
    assert not app.info
    point(mongo, first, "v2")
    promoted = beside(first, "v2")
    wait_until(lambda: shown() == [promoted, promoted], 10, "the version that was promoted")
    assert promoted in app.info[0].value
    point(mongo, first, "")
    wait_until(lambda: shown() == [first, first], 10, "the version that was taken back")
