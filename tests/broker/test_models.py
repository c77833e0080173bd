"""`podstream model` on a real broker: which generations there are, and which lists carry."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from pymongo.database import Database
from typer.testing import CliRunner, Result

from schemas import columnar
from schemas.vectors import vector_bytes
from streams.cli.exporter import measure_mongodb
from streams.cli.local.instance import environment as instance_environment
from streams.cli.main import build_app
from streams.cli.status import model_status
from streams.recommendation.core.model_records import slot_key
from tests.broker.workers import StageWriter, alive, instance
from tests.waiting import wait_until
from topology.monitoring.metrics import GENERATIONS_REFUSED
from topology.settings import Settings, get_settings

pytestmark = [pytest.mark.broker, pytest.mark.mongo]

START = datetime(2026, 1, 10, tzinfo=UTC)
WAIT_S = 120
LISTENERS = ("ann", "bob")
EPISODES = 6


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, mongo_uri: str) -> Iterator[Settings]:
    with instance(tmp_path_factory.mktemp("models"), mongo_uri) as settings:
        yield settings


@pytest.fixture
def podstream(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in instance_environment(settings).items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(build_app(), ["model", *arguments])

    yield run
    get_settings.cache_clear()


class Log(StageWriter):
    """Writes what lists are made of."""

    def episodes_and_listeners(self) -> None:
        for number in range(EPISODES):
            episode = {
                "episode_id": f"e:{number}", "title": f"Title {number}", "show_id": "s:1",
                "show_title": "Show", "categories": [], "published_at": START, "source": "import",
            }  # fmt: skip
            self.write("episode-metadata", episode, f"e:{number}")
        rows = [
            {
                "partition": 0, "offset": place, "event_id": f"event-{place}", "user_id": user,
                "episode_id": "e:0", "kind": "progress", "heard_ms": 900_000, "position_ms": 0,
                "occurred_at": START + timedelta(minutes=place),
            }
            for place, user in enumerate(LISTENERS)
        ]  # fmt: skip
        frame = pl.DataFrame(rows, schema=dict(columnar.columns("user_event")))
        self.write("user-event-batches", frame, partition=0)

    def generation(self, name: str, number: float = 1.0, **more: Any) -> None:
        slot = more.get("slot", 0)
        for episode in range(EPISODES):
            vector = np.array([number, 1.0 + episode], dtype=np.float32)
            factors: dict[str, Any] = {"episode_id": f"e:{episode}", "generation": name}
            factors |= {"vector": vector_bytes(vector)}
            self.write("item-factors", factors, slot_key(f"e:{episode}", slot))
        record = {
            "generation": name, "model": "als", "items": EPISODES, "users": 2, "interactions": 9,
            "rank": 2, "alpha": 1.0, "regularization": 0.1, "seed": 0, "offsets": [],
            "trained_at": datetime.strptime(name, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
            "train_seconds": 1.0, "metrics": {}, **more,
        }  # fmt: skip
        self.write("model-generations", record, name)


def carried(database: Database[dict[str, Any]]) -> set[str]:
    """The generations of the lists that are served; none before every listener has one."""
    lists = list(database["final_recommendations"].find())
    return {one["generation"] for one in lists} if len(lists) == len(LISTENERS) else set()


def states(podstream: Any) -> dict[str, str]:
    result = podstream("list", "--json")
    assert result.exit_code == 0, result.output
    return {one["generation"]: one["state"] for one in json.loads(result.stdout)}


FIRST, SECOND, THIRD, FOURTH = (f"20260110T0{hour}0000Z" for hour in range(1, 5))


def test_a_broken_generation_is_refused_by_all_who_show_it_and_no_list_carries_it(
    settings: Settings,
    worker: subprocess.Popen[bytes],
    database: Database[dict[str, Any]],
    podstream: Any,
) -> None:
    assert "No generation yet" in podstream("list").output
    log = Log(settings)
    log.episodes_and_listeners()
    log.generation(FIRST)
    wait_until(lambda: carried(database) == {FIRST}, WAIT_S, "lists of the first generation")
    log.generation(SECOND, float("nan"))
    told = {SECOND: "refused", FIRST: "serving"}
    wait_until(lambda: states(podstream) == told, WAIT_S, "the refusal in the log")
    wait_until(lambda: len(model_status(settings)) == 2, WAIT_S, "the refusal in MongoDB")
    refused, serving = model_status(settings)
    measured = {one.name: one.samples for one in measure_mongodb(settings)}
    assert [sample.value for sample in measured[GENERATIONS_REFUSED.name]] == [1]
    assert (refused.generation, serving.generation) == (SECOND, FIRST)
    assert "not finite" in refused.because
    assert carried(database) == {FIRST}
    alive(worker)
    table = podstream("list")
    assert f"{SECOND} is refused: " in table.output


def test_lists_carry_what_is_promoted_and_taken_back(
    settings: Settings,
    worker: subprocess.Popen[bytes],
    database: Database[dict[str, Any]],
    podstream: Any,
) -> None:
    def comes(generation: str) -> None:
        wait_until(
            lambda: carried(database) == {generation},
            WAIT_S,
            f"lists of {generation}",
            check=lambda: alive(worker),
        )

    log = Log(settings)
    log.episodes_and_listeners()
    log.generation(THIRD, slot=1)
    comes(THIRD)
    log.generation(FOURTH, slot=2)
    comes(FOURTH)
    refused = podstream("promote", SECOND)
    assert refused.exit_code == 1
    assert f"{FOURTH}, {THIRD}" in refused.output
    back = podstream("rollback")
    assert f"{THIRD} serves from now on, in place of {FOURTH}" in back.output, back.output
    comes(THIRD)
    assert states(podstream)[THIRD] == "serving"
    assert states(podstream)[FOURTH] == "kept"
    wait_until(lambda: THIRD in told_by_status(settings), WAIT_S, "the choice in MongoDB")
    assert podstream("promote", FOURTH).exit_code == 0
    comes(FOURTH)
    assert podstream("promote", THIRD).exit_code == 0
    fifth = "20260110T050000Z"
    log.generation(fifth, slot=3)
    wait_until(lambda: states(podstream).get(fifth) == "kept", WAIT_S, "the newest is kept")
    assert podstream("promote", "latest").exit_code == 0
    comes(fifth)


def told_by_status(settings: Settings) -> list[str]:
    return [one.generation for one in model_status(settings) if one.state == "serving"]
