"""Schema ids: from the `_schemas` topic, a registry's REST API, or fixed for runs in memory."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

import fastavro
import requests

from schemas import files
from schemas.codec import UnknownSchemaError

log = logging.getLogger(__name__)

SCHEMAS_TOPIC = "_schemas"
_RELOAD_EVERY_S = 5.0
_REST_TIMEOUT_S = 30.0
_FIRST_ANSWER_S = 5.0

SubjectVersion = tuple[str, int, str]
"""Subject, version (from 1) and schema text."""


class SchemaStore(Protocol):
    """Where schemas are registered: what `podstream topology apply` compares and writes."""

    def texts(self) -> dict[str, dict[int, str]]:
        """Subject -> version -> schema text, of everything registered."""

    def register(self, versions: Sequence[SubjectVersion], compatibility: str) -> None:
        """Add versions of Avro schemas; later ones must be compatible in this way."""


class SchemaLog(Protocol):
    """The records of the `_schemas` topic. Its errors are those of the client behind it."""

    def read_on(self) -> Iterable[tuple[bytes | None, bytes | None]]:
        """Key and value of each record since the last call, to the present end of the topic;
        none as long as there is no such topic."""

    def append(self, records: Sequence[tuple[str, str]]) -> None:
        """Write keys and values, and return when the log has them."""


class FixedRegistry:
    """Ids counted up over declared subjects: for runs in memory, where nothing is shared.

    ``subjects`` is the schema name of each subject.
    """

    def __init__(self, subjects: Mapping[str, str]):
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, Any] = {}
        for number, (subject, name) in enumerate(sorted(subjects.items()), 1):
            self._ids[subject] = number
            self._schemas[number] = files.parsed(name)

    def schema(self, schema_id: int) -> Any:
        """The parsed schema of an id; UnknownSchemaError if there is none."""
        try:
            return self._schemas[schema_id]
        except KeyError:
            raise UnknownSchemaError(f"schema id {schema_id} is not registered") from None

    def id_of(self, subject: str) -> int:
        """The id under a subject; KeyError if it is not declared."""
        return self._ids[subject]


class TopicRegistry:
    """Ids kept in the `_schemas` topic, in the record format of Confluent's registry.

    The topic is first read when something is asked. An id that is not known yet makes it read on,
    at most every few seconds.
    """

    def __init__(self, log: SchemaLog):
        self._log = log
        self.versions: dict[str, dict[int, int]] = {}
        """Subject -> version -> id, as far as the topic has been read."""
        self._texts: dict[int, str] = {}
        self._parsed: dict[int, Any] = {}
        self._read_at: float | None = None

    def refresh(self) -> None:
        """Read `_schemas` to its present end."""
        for key, value in self._log.read_on():
            self._apply(key, value)
        self._read_at = time.monotonic()

    def _apply(self, key: bytes | None, value: bytes | None) -> None:
        if not key or not value or json.loads(key).get("keytype") != "SCHEMA":
            return
        record = json.loads(value)
        if record.get("deleted"):
            return
        self.versions.setdefault(record["subject"], {})[record["version"]] = record["id"]
        self._texts[record["id"]] = record["schema"]

    def _refresh_if_older(self, seconds: float) -> None:
        if self._read_at is None or time.monotonic() - self._read_at > seconds:
            self.refresh()

    def schema(self, schema_id: int) -> Any:
        """The parsed writer's schema of an id; UnknownSchemaError if there is none."""
        if schema_id not in self._texts:
            self._refresh_if_older(_RELOAD_EVERY_S)
        if schema_id not in self._texts:
            raise UnknownSchemaError(f"schema id {schema_id} is not registered")
        if schema_id not in self._parsed:
            self._parsed[schema_id] = fastavro.parse_schema(json.loads(self._texts[schema_id]))
        return self._parsed[schema_id]

    def id_of(self, subject: str) -> int:
        """The id of the newest version under a subject; KeyError if nothing is registered."""
        if self._read_at is None:
            self.refresh()
        versions = self.versions.get(subject)
        if not versions:
            raise KeyError(
                f"{subject} is not registered: run `podstream topology apply` against this broker"
            )
        return versions[max(versions)]

    def texts(self) -> dict[str, dict[int, str]]:
        """Subject -> version -> schema text, of everything registered by now."""
        self.refresh()
        return {
            subject: {version: self._texts[number] for version, number in versions.items()}
            for subject, versions in self.versions.items()
        }

    def register(self, versions: Sequence[SubjectVersion], compatibility: str) -> None:
        """Append the records that Confluent's registry would; equal schemas share an id, as there.

        ``compatibility`` is not kept in the topic: `podstream topology apply` checks it itself.
        """
        self.refresh()
        ids = {_canonical(text): number for number, text in self._texts.items()}
        records = []
        for subject, version, text in versions:
            number = ids.setdefault(_canonical(text), max(ids.values(), default=0) + 1)
            key = {"keytype": "SCHEMA", "subject": subject, "version": version, "magic": 1}
            value = {
                "subject": subject,
                "version": version,
                "id": number,
                "schema": text,
                "deleted": False,
            }
            records.append((_compact(key), _compact(value)))
        self._log.append(records)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


class RegistryRefusalError(requests.RequestException):
    """The registry does not let us in; the message is one sentence without any secret."""


class RestRegistry:
    """Ids from the REST API of a Confluent-compatible registry.

    ``credentials`` are user and password, ``ca`` a file of certificates that the registry's is
    checked against. Failures are requests' exceptions, which show the URL: it must carry no secret.
    """

    def __init__(self, url: str, credentials: tuple[str, str] | None = None, ca: str = ""):
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.auth = credentials
        # given with each request: a session's own gives way to REQUESTS_CA_BUNDLE
        self._verify: str | bool = ca or True
        self._session.headers["Content-Type"] = "application/vnd.schemaregistry.v1+json"
        self._parsed: dict[int, Any] = {}
        self._ids: dict[str, int] = {}

    def require_access(self) -> None:
        """RegistryRefusalError if the registry refuses us; one that does not answer is let be."""
        try:
            self._ask("GET", "subjects", timeout_s=_FIRST_ANSWER_S)
        except RegistryRefusalError:
            raise
        except requests.RequestException:
            log.debug("the registry does not answer yet", exc_info=True)

    def schema(self, schema_id: int) -> Any:
        """The parsed writer's schema of an id; UnknownSchemaError if there is none."""
        if schema_id not in self._parsed:
            answer = self._ask("GET", f"schemas/ids/{schema_id}", missing_ok=True)
            if answer is None:
                raise UnknownSchemaError(f"schema id {schema_id} is not registered")
            self._parsed[schema_id] = fastavro.parse_schema(json.loads(answer["schema"]))
        return self._parsed[schema_id]

    def id_of(self, subject: str) -> int:
        """The id of the newest version under a subject; KeyError if nothing is registered."""
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

    def register(self, versions: Sequence[SubjectVersion], compatibility: str) -> None:
        """Add versions of Avro schemas; later ones must be compatible in this way."""
        for subject, _, text in versions:
            name = quote(subject, safe="")
            self._ask("PUT", f"config/{name}", {"compatibility": compatibility})
            body = {"schema": text, "schemaType": "AVRO"}
            self._ask("POST", f"subjects/{name}/versions", body)

    def _ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        missing_ok: bool = False,
        timeout_s: float = _REST_TIMEOUT_S,
    ) -> Any:
        try:
            answer = self._session.request(
                method, f"{self._url}/{path}", json=body, timeout=timeout_s, verify=self._verify
            )
        except requests.exceptions.SSLError:
            raise RegistryRefusalError(
                f"No TLS connection to the schema registry at {self._url}: its certificate is not "
                "one that KAFKA_SSL_CA_FILE, or the system, vouches for."
            ) from None
        if answer.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
            raise RegistryRefusalError(
                f"The schema registry at {self._url} refuses us ({answer.status_code}): user or "
                "password in SCHEMA_REGISTRY_URL is wrong, or may not do this."
            )
        if missing_ok and answer.status_code == requests.codes.not_found:
            return None
        answer.raise_for_status()
        return answer.json()
