"""Schema ids: from the `_schemas` topic, a registry's REST API, or fixed for runs in memory."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import fastavro
import requests
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from schemas import files
from schemas.codec import Registry, UnknownSchemaError, subject_of
from topology.graph import Graph
from topology.settings import Settings

SCHEMAS_TOPIC = "_schemas"
_RELOAD_EVERY_S = 5.0
_REST_TIMEOUT_S = 30.0


def declared_subjects(graph: Graph) -> dict[str, str]:
    """Subject -> schema name, for every Avro topic of the graph."""
    return {
        subject_of(topic.name): topic.schema
        for topic in graph.topics.values()
        if topic.format == "avro" and topic.schema
    }


class FixedRegistry:
    """Ids counted up over the declared subjects: for runs in memory, where nothing is shared."""

    def __init__(self, graph: Graph):
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, Any] = {}
        for number, (subject, name) in enumerate(sorted(declared_subjects(graph).items()), 1):
            self._ids[subject] = number
            self._schemas[number] = files.parsed(name)

    def schema(self, schema_id: int) -> Any:
        try:
            return self._schemas[schema_id]
        except KeyError:
            raise UnknownSchemaError(f"schema id {schema_id} is not registered") from None

    def id_of(self, subject: str) -> int:
        return self._ids[subject]


class TopicRegistry:
    """Ids read from the `_schemas` topic, in the record format of Confluent's registry.

    An id that is not known yet makes it read on, at most every few seconds.
    """

    def __init__(self, bootstrap_servers: str):
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "podstream-schema-reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self._consumer.assign([TopicPartition(SCHEMAS_TOPIC, 0, OFFSET_BEGINNING)])
        self.versions: dict[str, dict[int, int]] = {}
        self.texts: dict[int, str] = {}
        self._parsed: dict[int, Any] = {}
        self._read_at = 0.0
        self.refresh()

    def refresh(self) -> None:
        """Read `_schemas` to its present end."""
        _, end = self._consumer.get_watermark_offsets(TopicPartition(SCHEMAS_TOPIC, 0), timeout=30)
        while self._position() < end:
            for message in self._consumer.consume(500, timeout=1.0):
                if message.error() is None:
                    self._apply(message.key(), message.value())
        self._read_at = time.monotonic()

    def _position(self) -> int:
        (position,) = self._consumer.position([TopicPartition(SCHEMAS_TOPIC, 0)])
        return max(position.offset, 0)

    def _apply(self, key: bytes | None, value: bytes | None) -> None:
        if not key or not value or json.loads(key).get("keytype") != "SCHEMA":
            return
        record = json.loads(value)
        if record.get("deleted"):
            return
        self.versions.setdefault(record["subject"], {})[record["version"]] = record["id"]
        self.texts[record["id"]] = record["schema"]

    def schema(self, schema_id: int) -> Any:
        if schema_id not in self.texts and time.monotonic() - self._read_at > _RELOAD_EVERY_S:
            self.refresh()
        if schema_id not in self.texts:
            raise UnknownSchemaError(f"schema id {schema_id} is not registered")
        if schema_id not in self._parsed:
            self._parsed[schema_id] = fastavro.parse_schema(json.loads(self.texts[schema_id]))
        return self._parsed[schema_id]

    def id_of(self, subject: str) -> int:
        versions = self.versions.get(subject)
        if not versions:
            raise KeyError(
                f"{subject} is not registered: run `podstream topology apply` against this broker"
            )
        return versions[max(versions)]

    def close(self) -> None:
        self._consumer.close()


class RestRegistry:
    """Ids from the REST API of a Confluent-compatible registry.

    Failures are requests' exceptions.
    """

    def __init__(self, url: str):
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.headers["Content-Type"] = "application/vnd.schemaregistry.v1+json"
        self._parsed: dict[int, Any] = {}
        self._ids: dict[str, int] = {}

    def schema(self, schema_id: int) -> Any:
        if schema_id not in self._parsed:
            answer = self._ask("GET", f"schemas/ids/{schema_id}", missing_ok=True)
            if answer is None:
                raise UnknownSchemaError(f"schema id {schema_id} is not registered")
            self._parsed[schema_id] = fastavro.parse_schema(json.loads(answer["schema"]))
        return self._parsed[schema_id]

    def id_of(self, subject: str) -> int:
        if subject not in self._ids:
            path = f"subjects/{quote(subject, safe='')}/versions/latest"
            answer = self._ask("GET", path, missing_ok=True)
            if answer is None:
                raise KeyError(
                    f"{subject} is not registered: run `podstream topology apply` for this registry"
                )
            self._ids[subject] = answer["id"]
        return self._ids[subject]

    def texts(self) -> dict[str, dict[int, str]]:
        """Subject -> version -> schema text, of everything registered."""
        found: dict[str, dict[int, str]] = {}
        for subject in self._ask("GET", "subjects"):
            path = f"subjects/{quote(subject, safe='')}/versions"
            found[subject] = {
                version: self._ask("GET", f"{path}/{version}")["schema"]
                for version in self._ask("GET", path)
            }
        return found

    def register(self, subject: str, text: str, compatibility: str) -> None:
        """Add a version of an Avro schema; later ones must be compatible in this way."""
        name = quote(subject, safe="")
        self._ask("PUT", f"config/{name}", {"compatibility": compatibility})
        self._ask("POST", f"subjects/{name}/versions", {"schema": text, "schemaType": "AVRO"})

    def _ask(self, method: str, path: str, body: Any = None, *, missing_ok: bool = False) -> Any:
        answer = self._session.request(
            method, f"{self._url}/{path}", json=body, timeout=_REST_TIMEOUT_S
        )
        if missing_ok and answer.status_code == requests.codes.not_found:
            return None
        answer.raise_for_status()
        return answer.json()


def open_registry(settings: Settings) -> Registry:
    """The registry that the settings name."""
    if settings.schema_registry_url:
        return RestRegistry(settings.schema_registry_url)
    return TopicRegistry(settings.kafka_bootstrap_servers)
