"""A MongoDB that is empty gets everything again from the log; one that is not goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from pydantic import SecretStr
from pymongo import MongoClient

from streams.kafka.clients import reader
from streams.serving.mongo.anew import serve_anew
from streams.serving.mongo.mongo import PROGRESS
from tests.waiting import wait_until
from topology.graph import app_id, build_graph
from topology.model import Stage
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.mongo]

TOPIC = "served-anew"


@pytest.fixture
def settings(broker: str, mongo_uri: str, tmp_path: Path) -> Settings:
    admin = AdminClient({"bootstrap.servers": broker})
    if TOPIC not in admin.list_topics(timeout=10).topics:
        admin.create_topics([NewTopic(TOPIC, 1)])[TOPIC].result()
    return Settings(
        podstream_home=tmp_path,
        kafka_bootstrap_servers=broker,
        mongodb_uri=SecretStr(mongo_uri),
        mongodb_database=f"t{uuid4().hex[:8]}",
    )


@pytest.fixture
def stages(settings: Settings) -> list[Stage]:
    """Those of the topology after they have worked: their groups have committed."""
    found = list(build_graph(1).stages.values())
    for stage in found:
        if stage.name in ("serve_mongo", "track_engagement"):
            consumer = reader(settings.kafka_bootstrap_servers, app_id(stage))
            consumer.commit(offsets=[TopicPartition(TOPIC, 0, 7)], asynchronous=False)
            consumer.close()
    return found


def committed(settings: Settings, stages: list[Stage], name: str) -> int:
    (stage,) = (stage for stage in stages if stage.name == name)
    consumer = reader(settings.kafka_bootstrap_servers, app_id(stage))
    try:
        (found,) = consumer.committed([TopicPartition(TOPIC, 0)], timeout=10)
        return int(found.offset)
    finally:
        consumer.close()


def test_an_empty_database_is_served_from_the_beginning(
    settings: Settings, stages: list[Stage]
) -> None:
    assert serve_anew(settings, stages) == ["serve_mongo"]
    assert committed(settings, stages, "serve_mongo") < 0
    assert committed(settings, stages, "track_engagement") == 7
    assert serve_anew(settings, stages) == []  # nothing is committed any more


def test_one_that_has_been_served_goes_on(settings: Settings, stages: list[Stage]) -> None:
    with MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client:
        client[settings.mongodb_database][PROGRESS].insert_one({"_id": f"{TOPIC}|0", "offset": 6})
    assert serve_anew(settings, stages) == []
    assert committed(settings, stages, "serve_mongo") == 7


def test_a_worker_that_runs_is_left_alone(settings: Settings, stages: list[Stage]) -> None:
    (stage,) = (stage for stage in stages if stage.name == "serve_mongo")
    worker = Consumer(
        {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": app_id(stage)}
    )
    worker.subscribe([TOPIC])
    try:
        wait_until(lambda: worker.poll(0.1) is None and worker.assignment(), 30, "its partition")
        assert serve_anew(settings, stages) == []
        assert committed(settings, stages, "serve_mongo") == 7
    finally:
        worker.close()
