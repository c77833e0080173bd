from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from pydantic import SecretStr

from schemas.codec import RecordCodec, subject_of, unframe
from streams.cli.local.broker import running_broker
from streams.kafka.log_reader import LogTail
from streams.kafka.message import Message
from streams.kafka.registry import open_registry, topic_registry
from streams.kafka.removal import delete_topics
from topology.apply import RefusedError, apply_topology, expires_rows, observe
from topology.graph import build_graph, declared_subjects, state_topic
from topology.plan import AlterConfig, CreateTopic, LeaveAlone, plan
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.mongo]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, mongo_uri: str) -> Iterator[Settings]:
    """An empty broker of its own: what is in it is the subject here."""
    home = tmp_path_factory.mktemp("apply")
    with running_broker(home) as bootstrap:
        yield Settings(
            podstream_home=home,
            kafka_bootstrap_servers=bootstrap,
            mongodb_uri=SecretStr(mongo_uri),
            mongodb_database="apply",
        )


@pytest.fixture(scope="module", autouse=True)
def applied(settings: Settings) -> None:
    apply_topology(settings, open_registry(settings))


def test_the_cluster_holds_what_was_declared(settings: Settings) -> None:
    graph = build_graph(settings.event_partitions)
    observed = observe(settings, graph, open_registry(settings))
    assert {n: t.partitions for n, t in observed.topics.items() if n in graph.topics} == {
        name: topic.partitions for name, topic in graph.topics.items()
    }
    assert plan(graph, observed) == []


def test_applying_again_is_quick_and_changes_nothing(settings: Settings) -> None:
    started = time.monotonic()
    assert apply_topology(settings, open_registry(settings)) == []
    assert time.monotonic() - started < 5


def test_topics_that_were_deleted_are_made_anew_at_once(settings: Settings) -> None:
    """As a replay does. Nobody plans by topics that are going."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    graph = build_graph(settings.event_partitions)
    going = [state_topic(stage, t).name for stage in graph.stages.values() for t in stage.tables]
    assert len(going) > 5
    for _ in range(5):
        delete_topics(admin, [*going, "never-there"], 60)
        made = apply_topology(settings, open_registry(settings), mongo=False)
        assert {action.topic for action in made if isinstance(action, CreateTopic)} == set(going)
        assert len(made) == len(going)


def test_schemas_are_registered_as_confluents_registry_keeps_them(settings: Settings) -> None:
    graph = build_graph(settings.event_partitions)
    records: list[Message] = []
    reader = LogTail(settings.kafka_bootstrap_servers, ["_schemas"])
    reader.read_to_end(records.extend)
    reader.close()
    keys = [json.loads(record.key or b"") for record in records]
    values = [json.loads(record.value or b"") for record in records]
    assert {key["subject"] for key in keys} == declared_subjects(graph).keys()
    assert all(list(key) == ["keytype", "subject", "version", "magic"] for key in keys)
    assert all(key["keytype"] == "SCHEMA" and key["magic"] == 1 for key in keys)
    assert all(list(value) == ["subject", "version", "id", "schema", "deleted"] for value in values)
    assert len({value["schema"] for value in values}) == len({value["id"] for value in values})


def test_records_go_round_through_the_registered_ids(settings: Settings) -> None:
    registry = topic_registry(settings.kafka_bootstrap_servers)
    codec = RecordCodec("table-generations", "table_generation", registry)
    record = {
        "table": "live",
        "generation": 1,
        "digest": "d",
        "promoted_at": datetime(2026, 1, 1, tzinfo=UTC),
        "offsets": [{"source_partition": 0, "offset": 7}],
    }
    framed = codec.encode(record)
    assert unframe(framed)[0] == registry.id_of(subject_of("table-generations"))
    assert codec.decode(framed) == record


def test_drift_is_corrected(settings: Settings) -> None:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    drift = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, "user-events", incremental_configs=[drift])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()
    assert apply_topology(settings, open_registry(settings), mongo=False) == [
        AlterConfig("user-events", {"retention.ms": "-1"}, {"retention.ms": "1000"})
    ]
    assert apply_topology(settings, open_registry(settings), mongo=False) == []


def test_topics_of_others_are_left_alone(settings: Settings) -> None:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    for future in admin.create_topics([NewTopic("theirs", 1, 1)]).values():
        future.result()
    apply_topology(settings, open_registry(settings))
    graph = build_graph(settings.event_partitions)
    observed = observe(settings, graph, open_registry(settings))
    assert plan(graph, observed) == [LeaveAlone("theirs")]


def test_other_partitions_are_refused_and_nothing_is_changed(settings: Settings) -> None:
    wider = settings.model_copy(update={"event_partitions": settings.event_partitions + 1})
    with pytest.raises(RefusedError, match="user-events: it has 4 partitions"):
        apply_topology(wider, open_registry(wider))
    assert apply_topology(settings, open_registry(settings)) == []


def test_indexes_are_created_by_their_declared_names(settings: Settings) -> None:
    graph = build_graph(settings.event_partitions)
    with pymongo.MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client:
        database = client[settings.mongodb_database]
        for name, collection in graph.collections.items():
            there = set(database[name].index_information())
            assert {index.name for index in collection.indexes} <= there
        assert not expires_rows(database)  # the embedded server has no TTL monitor
