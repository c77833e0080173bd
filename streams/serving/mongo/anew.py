"""An empty database is served from the beginning of the log, whatever was served to a former one.

Consumer groups know how far they came, not where their documents are now: a new database behind
the same log would get nothing but what happens from now on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from pymongo import MongoClient

from streams.serving.mongo.mongo import PROGRESS
from topology.access import admin_client
from topology.graph import app_id
from topology.model import Stage
from topology.settings import Settings

TIMEOUT_S = 30.0
_IN_USE = (KafkaError.NON_EMPTY_GROUP, KafkaError.GROUP_ID_NOT_FOUND)


def serve_anew(settings: Settings, stages: Iterable[Stage]) -> list[str]:
    """Let the stages that mark their progress in MongoDB begin again where no mark is left.

    Gives their names. Only stages of which no worker runs: one that does would find its marks gone
    by itself. Call it before workers start.
    """
    marking = [stage for stage in stages if PROGRESS in stage.writes]
    with MongoClient[dict[str, Any]](
        settings.mongodb_uri.get_secret_value(), serverSelectionTimeoutMS=int(TIMEOUT_S * 1000)
    ) as client:
        if client[settings.mongodb_database][PROGRESS].find_one({}, {"_id": 1}) is not None:
            return []
    admin = admin_client(settings.kafka_bootstrap_servers, log_level=0)
    listed = admin.list_consumer_groups(request_timeout=TIMEOUT_S).result()
    groups = {group.group_id for group in listed.valid}
    begun = [stage for stage in marking if app_id(stage) in groups]
    return [stage.name for stage in begun if _forget(admin, app_id(stage))]


def _forget(admin: AdminClient, group: str) -> bool:
    """Remove what a group has committed; False if a worker of it runs."""
    try:
        admin.delete_consumer_groups([group], request_timeout=TIMEOUT_S)[group].result()
    except KafkaException as error:
        if error.args[0].code() in _IN_USE:
            return False
        raise
    return True
