"""Registering through a registry's REST API, and in the records of a topic; what needs a broker is
in tests/broker."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
from pydantic import SecretStr

from schemas import files
from schemas.codec import RecordCodec, UnknownSchemaError, unframe
from schemas.registry import TopicRegistry
from streams.kafka.registry import open_registry
from topology.apply import COMPATIBILITY, execute
from topology.graph import build_graph
from topology.plan import Observed, RegisterSchema, plan
from topology.settings import Settings


class RegistryServer(ThreadingHTTPServer):
    """The routes of Confluent's registry that we call, over a dict."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RegistryHandler)
        self.subjects: dict[str, list[dict[str, Any]]] = {}
        self.compatibility: dict[str, str] = {}


class RegistryHandler(BaseHTTPRequestHandler):
    server: RegistryServer

    def _answer(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self) -> None:
        match unquote(self.path.partition("?")[0]).strip("/").split("/"):
            case ["subjects"]:
                self._answer(list(self.server.subjects))
            case ["subjects", subject, "versions"]:
                self._answer([entry["version"] for entry in self.server.subjects[subject]])
            case ["subjects", subject, "versions", number]:
                if subject not in self.server.subjects:
                    self.send_error(404)
                    return
                place = -1 if number == "latest" else int(number) - 1
                self._answer(self.server.subjects[subject][place])
            case ["schemas", "ids", number]:
                entries = [e for group in self.server.subjects.values() for e in group]
                found = [entry for entry in entries if entry["id"] == int(number)]
                if not found:
                    self.send_error(404)
                    return
                self._answer({"schema": found[0]["schema"]})

    def do_POST(self) -> None:
        _, subject, _ = unquote(self.path.partition("?")[0]).strip("/").split("/")
        entries = self.server.subjects.setdefault(subject, [])
        schema_id = sum(map(len, self.server.subjects.values())) + 1
        entry = {"subject": subject, "version": len(entries) + 1, "id": schema_id}
        entries.append({**entry, "schema": self._body()["schema"]})
        self._answer({"id": schema_id})

    def do_PUT(self) -> None:
        subject = unquote(self.path).strip("/").split("/")[1]
        self.server.compatibility[subject] = self._body()["compatibility"]
        self._answer({"compatibility": self.server.compatibility[subject]})

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_schemas_go_to_the_registry_and_stay(registry: RegistryServer) -> None:
    settings = Settings(schema_registry_url=SecretStr(f"http://127.0.0.1:{registry.server_port}"))
    graph, store = build_graph(1), open_registry(settings)

    def wanted() -> list[RegisterSchema]:
        observed = Observed(subjects=store.texts())
        return [a for a in plan(graph, observed) if isinstance(a, RegisterSchema)]

    actions = wanted()
    assert actions
    execute(settings, store, actions)
    assert set(registry.compatibility.values()) == {COMPATIBILITY}
    assert registry.compatibility.keys() == registry.subjects.keys()
    entries = registry.subjects["episode-ids-value"]
    registered = [json.loads(entry["schema"]) for entry in entries]
    assert registered == [files.load("episode_ref", v) for v in files.versions("episode_ref")]
    assert wanted() == []


def test_records_go_round_by_the_registrys_ids(registry: RegistryServer) -> None:
    url = f"http://127.0.0.1:{registry.server_port}"
    settings = Settings(schema_registry_url=SecretStr(url))
    rest = open_registry(settings)
    execute(settings, rest, [a for a in plan(build_graph(1), Observed()) if hasattr(a, "text")])
    codec = RecordCodec("blend-weights", "blend_weights", rest)
    at = datetime(2026, 1, 31, tzinfo=UTC)
    names = ("als", "content", "trending", "intercept")
    record = {
        **dict.fromkeys(names, 0.5),
        **dict.fromkeys(("source_partition", "samples", "offset"), 3),
        "at": at,
    }
    framed = codec.encode(record)
    assert codec.decode(framed) == record
    assert unframe(framed)[0] == registry.subjects["blend-weights-value"][0]["id"]
    with pytest.raises(UnknownSchemaError, match="id 999 is not registered"):
        rest.schema(999)
    with pytest.raises(KeyError, match="nothing-value is not registered"):
        rest.id_of("nothing-value")


class SchemaTopic:
    """One reader of the `_schemas` topic, which is a list of its records."""

    def __init__(self, records: list[tuple[bytes, bytes]]) -> None:
        self.records = records
        self.reads = 0
        self._read = 0

    def read_on(self) -> list[tuple[bytes, bytes]]:
        self.reads += 1
        start, self._read = self._read, len(self.records)
        return self.records[start:]

    def append(self, records: Sequence[tuple[str, str]]) -> None:
        self.records += [(key.encode(), value.encode()) for key, value in records]


def test_a_topic_of_schemas_shares_ids_and_is_read_on() -> None:
    topic = SchemaTopic([])
    writer, reader = TopicRegistry(topic), TopicRegistry(SchemaTopic(topic.records))
    assert topic.reads == 0
    assert writer.texts() == {}
    with pytest.raises(KeyError, match="a-value is not registered: run `podstream topology apply`"):
        writer.id_of("a-value")
    writer.register([("a-value", 1, '{"type": "int"}'), ("b-value", 1, '{"type":"int"}')], "ANY")
    writer.register([("a-value", 2, '"long"')], "ANY")
    versions = {name: list(texts) for name, texts in reader.texts().items()}
    assert versions == {"a-value": [1, 2], "b-value": [1]}
    assert (reader.id_of("a-value"), reader.id_of("b-value")) == (2, 1)
    assert reader.schema(2) == "long"


def test_records_of_others_and_deleted_versions_are_passed_over() -> None:
    topic = SchemaTopic([])
    topic.append([('{"keytype":"NOOP","magic":0}', "x"), ('{"keytype":"SCHEMA"}', "")])
    value = {"subject": "a-value", "version": 1, "id": 4, "schema": '"int"', "deleted": True}
    topic.append([('{"keytype":"SCHEMA","subject":"a-value"}', json.dumps(value))])
    registry = TopicRegistry(topic)
    assert registry.texts() == {}
    before = topic.reads
    with pytest.raises(UnknownSchemaError, match="id 4 is not registered"):
        registry.schema(4)
    assert topic.reads == before, "it was read a moment ago"
