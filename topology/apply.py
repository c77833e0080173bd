"""Makes a cluster hold what the graph declares: observe, plan, execute.

Applying again changes nothing. Nothing is ever deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from schemas.registry import SchemaStore
from topology.access import admin_client
from topology.graph import graph_of
from topology.model import Graph, Index
from topology.plan import (
    Action,
    AlterConfig,
    CreateIndex,
    CreateTopic,
    Observed,
    ObservedTopic,
    RegisterSchema,
    changes,
    plan,
    refusals,
)
from topology.settings import Settings

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0
COMPATIBILITY = "BACKWARD_TRANSITIVE"


class RefusedError(RuntimeError):
    """The plan holds something that must not be done silently; nothing was changed."""


def apply_topology(settings: Settings, store: SchemaStore, *, mongo: bool = True) -> list[Action]:
    """Create and correct topics, register schemas in ``store``, create indexes; give what was done.

    Without ``mongo`` the MongoDB server is neither looked at nor changed. RefusedError, with every
    reason, before anything is changed; KafkaException, PyMongoError and the errors of ``store``
    where a server fails.
    """
    graph = graph_of(settings)
    actions = plan(graph, observe(settings, graph, store, mongo=mongo))
    if refused := refusals(actions):
        raise RefusedError("\n".join(action.sentence() for action in refused))
    wanted = [action for action in changes(actions) if mongo or not isinstance(action, CreateIndex)]
    execute(settings, store, wanted)
    return wanted


def observe(
    settings: Settings, graph: Graph, store: SchemaStore, *, mongo: bool = True
) -> Observed:
    """What the cluster holds now: brokers, topics, schemas of ``store``, and indexes.

    Without ``mongo`` no index is looked for. KafkaException, PyMongoError and the errors of
    ``store`` where a server fails.
    """
    admin = admin_client(settings.kafka_bootstrap_servers)
    metadata = admin.list_topics(timeout=TIMEOUT_S)
    managed = [name for name in graph.topics if name in metadata.topics]
    configs = _topic_configs(admin, managed)
    return Observed(
        brokers=len(metadata.brokers),
        topics={
            name: ObservedTopic(len(topic.partitions), configs.get(name, {}))
            for name, topic in metadata.topics.items()
        },
        subjects=store.texts(),
        indexes=_indexes(settings, graph) if mongo else {},
    )


def execute(settings: Settings, store: SchemaStore, actions: Sequence[Action]) -> None:
    """Do the actions of a plan: topics first, then schemas, then indexes.

    KafkaException, PyMongoError and the errors of ``store`` where a server fails; what was done
    before stays, and the next plan does the rest.
    """
    admin = admin_client(settings.kafka_bootstrap_servers)
    _create_topics(admin, [a for a in actions if isinstance(a, CreateTopic)])
    _alter_configs(admin, [a for a in actions if isinstance(a, AlterConfig)])
    schemas = [a for a in actions if isinstance(a, RegisterSchema)]
    if schemas:
        store.register([(a.subject, a.version, a.text) for a in schemas], COMPATIBILITY)
    indexes = [a for a in actions if isinstance(a, CreateIndex)]
    if indexes:
        with _mongo(settings) as client:
            for action in indexes:
                create_index(client[settings.mongodb_database], action.collection, action.index)
    for done in actions:
        log.info("%s", done.sentence())


# -- topics ----------------------------------------------------------------------------------


def _topic_configs(admin: AdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    return {
        resource.name: {entry.name: entry.value for entry in future.result().values()}
        for resource, future in admin.describe_configs(resources, request_timeout=TIMEOUT_S).items()
    }


def _create_topics(admin: AdminClient, actions: Sequence[CreateTopic]) -> None:
    if not actions:
        return
    created = admin.create_topics(
        [
            NewTopic(
                action.topic,
                num_partitions=action.partitions,
                replication_factor=action.replication,
                config=action.config,
            )
            for action in actions
        ],
        operation_timeout=TIMEOUT_S,
    )
    for future in created.values():
        try:
            future.result()
        except KafkaException as error:
            # somebody else applied at the same time; the next plan compares what they made
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    _wait_for_leaders(
        admin,
        [TopicPartition(a.topic, number) for a in actions for number in range(a.partitions)],
    )


@retry(
    retry=retry_if_exception_type(KafkaException),
    stop=stop_after_delay(TIMEOUT_S),
    wait=wait_fixed(0.05),
    reraise=True,
)
def _wait_for_leaders(admin: AdminClient, partitions: Sequence[TopicPartition]) -> None:
    """A topic that was just created refuses its first readers until its leaders have taken up."""
    latest = {partition: OffsetSpec.latest() for partition in partitions}
    for future in admin.list_offsets(latest, request_timeout=TIMEOUT_S).values():
        future.result()


def _alter_configs(admin: AdminClient, actions: Sequence[AlterConfig]) -> None:
    if not actions:
        return
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            action.topic,
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, value in action.changes.items()
            ],
        )
        for action in actions
    ]
    for future in admin.incremental_alter_configs(resources, request_timeout=TIMEOUT_S).values():
        future.result()


# -- MongoDB ---------------------------------------------------------------------------------


def _mongo(settings: Settings) -> MongoClient[dict[str, Any]]:
    return MongoClient(settings.mongodb_uri.get_secret_value(), serverSelectionTimeoutMS=10_000)


def _indexes(settings: Settings, graph: Graph) -> dict[str, frozenset[str]]:
    with _mongo(settings) as client:
        database = client[settings.mongodb_database]
        there = set(database.list_collection_names())
        return {
            name: frozenset(database[name].index_information())
            for name in graph.collections
            if name in there
        }


def create_index(database: Database[dict[str, Any]], collection: str, index: Index) -> None:
    """Create one index; documents expire only where the server can do it (``expires_rows``)."""
    options: dict[str, Any] = {"name": index.name}
    if index.expire_after_s is not None and expires_rows(database):
        options["expireAfterSeconds"] = index.expire_after_s
    database[collection].create_index(list(index.fields), **options)


def expires_rows(database: Database[dict[str, Any]]) -> bool:
    """Whether the server removes documents by a TTL index: it then has a setting for that."""
    try:
        database.client.admin.command("getParameter", 1, ttlMonitorEnabled=1)
    except OperationFailure:
        return False
    return True
