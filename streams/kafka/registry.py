"""The schema registry that the settings name, and the `_schemas` topic behind ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from schemas.registry import SCHEMAS_TOPIC, RestRegistry, TopicRegistry
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogTail
from streams.kafka.message import Message
from topology.access import split_credentials
from topology.settings import Settings

TIMEOUT_S = 30.0


class KafkaSchemaLog:
    """`SchemaLog` on a broker. KafkaException where it gives or takes no record."""

    def __init__(self, bootstrap_servers: str):
        self._servers = bootstrap_servers
        self._reader: LogTail | None = None

    def read_on(self) -> list[tuple[bytes | None, bytes | None]]:
        """Key and value of each record since the last call; none if there is no such topic."""
        if self._reader is None:
            try:
                self._reader = LogTail(self._servers, [SCHEMAS_TOPIC])
            except KeyError:
                return []
        found: list[Message] = []
        self._reader.read_to_end(found.extend)
        return [(message.key, message.value) for message in found]

    def append(self, records: Sequence[tuple[str, str]]) -> None:
        """Write keys and values to the one partition, and return when the log has them."""
        writer = producer(self._servers)
        failures: list[Any] = []
        for key, value in records:
            writer.produce(
                SCHEMAS_TOPIC,
                key=key,
                value=value,
                partition=0,
                on_delivery=lambda error, _: failures.append(error) if error else None,
            )
        if writer.flush(TIMEOUT_S) or failures:
            raise KafkaException(failures[0] if failures else KafkaError(KafkaError._MSG_TIMED_OUT))


def topic_registry(bootstrap_servers: str) -> TopicRegistry:
    """The registry in the broker's own `_schemas` topic."""
    return TopicRegistry(KafkaSchemaLog(bootstrap_servers))


def rest_registry(settings: Settings) -> RestRegistry | None:
    """The REST registry at `SCHEMA_REGISTRY_URL`, with the credentials in it; None without one."""
    url = settings.schema_registry_url.get_secret_value()
    if not url:
        return None
    address, credentials = split_credentials(url)
    return RestRegistry(address, credentials, settings.kafka_ssl_ca_file)


def open_registry(settings: Settings) -> TopicRegistry | RestRegistry:
    """The REST registry at `SCHEMA_REGISTRY_URL`; without one, the topic `_schemas`."""
    return rest_registry(settings) or topic_registry(settings.kafka_bootstrap_servers)
