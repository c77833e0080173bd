"""A listener is forgotten, end to end: asked by command and API, killed in between, replayed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pymongo import MongoClient
from pymongo.database import Database

from jobs.write_delta import histories
from streams.api import models
from streams.api.documents import Documents
from streams.api.read_api import STAGE, create_app
from streams.cli.local.instance import variables
from streams.kafka.clients import producer
from streams.kafka.forgetting import Forgetting, forgetting_of
from streams.kafka.log_reader import read_all
from streams.kafka.message import Message
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from streams.operations.replay import ReplayError, replay
from streams.recommendation.explaining import explain_list
from tests.broker.workers import instance
from tests.chaos.processes import Processes
from tests.paths import ROOT
from tests.waiting import wait_until
from topology.graph import build_graph
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.mongo, pytest.mark.timeout(400)]

START = datetime(2026, 1, 10, tzinfo=UTC)
WAIT_S = 120.0
ADA, DAN = "ada", "dan"
"""Two listeners of one partition."""


class World:
    """An instance, its processes, and what they have made."""

    def __init__(self, settings: Settings, database: Database[dict[str, Any]]) -> None:
        self.settings = settings
        self.graph = build_graph(settings.event_partitions)
        self.processes = Processes(settings)
        self._lists = database["final_recommendations"]
        self._wire = Wire(self.graph, open_registry(settings))
        self._producer = producer(settings.kafka_bootstrap_servers)
        self._heard = 0

    def write(self, topic: str, record: dict[str, Any], key: str) -> None:
        self._producer.produce(topic, self._wire.encode(topic, record), key=key)
        assert self._producer.flush(30) == 0

    def hear(self, user: str, episode: int) -> None:
        self._heard += 1
        event = {
            "event_id": f"e{self._heard}",
            "user_id": user,
            "episode_id": f"e:{episode}",
            "kind": "play",
            "occurred_at": START,
            "heard_ms": 600_000,
        }
        self.write("user-events", event, user)

    def served(self, *users: str) -> None:
        """Wait until exactly these listeners have a list in MongoDB."""
        wait_until(
            lambda: {document["_id"] for document in self._lists.find()} == set(users),
            WAIT_S,
            f"lists of {users}",
            check=self.processes.check,
        )

    def records(self, topic: str) -> list[Message]:
        found: list[Message] = []
        read_all(self.settings.kafka_bootstrap_servers, [topic], found.extend)
        return found

    def forgotten(self, user: str) -> list[Forgetting]:
        """What is on record of a listener who was forgotten."""
        told = (forgetting_of(m.headers) for m in self.records("forgotten-listeners"))
        return [one for one in told if one is not None and one.user_id == user]

    def touched(self, user: str) -> int | None:
        """With how many episodes the state of `recommend` says that a listener did anything."""
        found = explain_list(self.settings, user, 1)
        return None if found is None else found.episodes_touched

    def replayed(self) -> int:
        """How many events come again for `recommend`; 0 while a killed process is missed."""
        made = histories(self.settings, self.graph)
        try:
            return replay(
                self.settings, self.graph, open_registry(self.settings), ["recommend"], made
            )
        except ReplayError as error:
            assert "running" in str(error)
            return 0

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "streams.cli.main", *words],
            env={**os.environ, **variables(self.settings)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


@pytest.fixture
def world(tmp_path: Path, mongo_uri: str) -> Iterator[World]:
    with (
        instance(tmp_path, mongo_uri) as settings,
        MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client,
    ):
        world = World(settings, client[settings.mongodb_database])
        try:
            yield world
        finally:
            world.processes.kill_all()


def test_whoever_is_forgotten_is_gone_until_something_new_is_heard(world: World) -> None:
    processes = world.processes
    for number in range(5):
        episode = {
            "episode_id": f"e:{number}",
            "title": f"Title {number}",
            "show_id": "s:1",
            "show_title": "The Show",
            "published_at": START - timedelta(days=number),
            "source": "import",
        }
        world.write("episode-metadata", episode, f"e:{number}")
    processes.start_batcher("batcher")
    processes.start_worker("worker", ("recommend", "serve_mongo"))
    for user in (ADA, DAN):
        world.hear(user, 0)
    world.served(ADA, DAN)

    # `batch_events` is away when it is asked for; what was done before is in no batch yet.
    processes.end("batcher", signal.SIGKILL)
    world.hear(ADA, 1)
    assert "ada is forgotten as soon as" in world.command("forget", ADA)
    processes.start_batcher("batcher")
    world.served(DAN)
    newest = {m.key: m.value for m in world.records("recommendations")}
    assert newest[ADA.encode()] is None
    assert newest[DAN.encode()] is not None
    (told,) = world.forgotten(ADA)
    assert told.up_to == 2, "the third event of the partition was done before"
    processes.end("batcher", signal.SIGKILL)
    processes.start_batcher("batcher")
    world.hear(ADA, 2)
    world.served(ADA, DAN)
    assert world.touched(ADA) == 1

    # The API asks as well; the stage is killed as soon as it has said whom it forgets.
    documents = Documents(world.settings, world.graph.stages[STAGE])
    with TestClient(create_app(world.settings, documents), "http://127.0.0.1") as client:
        answer = client.delete(f"/v1/listeners/{DAN}")
    assert answer.status_code == 202
    assert models.Requested.model_validate_json(answer.content).user_id == DAN
    wait_until(lambda: world.forgotten(DAN), WAIT_S, "the record", check=processes.check)
    processes.end("batcher", signal.SIGKILL)
    processes.start_batcher("batcher")
    world.served(ADA)
    assert world.touched(DAN) is None

    # Read again from the first event, by a stage that has forgotten everything.
    for name in ("batcher", "worker"):
        processes.end(name, signal.SIGTERM)
    assert wait_until(world.replayed, WAIT_S, "no member of a group is left", every_s=1.0) == 4
    assert world.touched(ADA) is None, "the stage has forgotten everything"
    processes.start_batcher("batcher")
    processes.start_worker("worker", ("recommend", "serve_mongo"))
    world.hear(ADA, 3)
    # It is the last one of the partition: whatever was before it has been read.
    wait_until(
        lambda: world.touched(ADA) == 2, WAIT_S, "what was heard since", check=processes.check
    )
    assert world.touched(DAN) is None
    world.served(ADA)
