"""How the hosts do that episodes come from, as the workers have said within the last minute."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from streams.kafka.log_reader import LogReader
from topology.model import Graph
from topology.settings import Settings

FRESH_S = 60.0
"""Workers repeat themselves more often: what is older comes from one that is gone."""
_SCHEMA = "source_host"
_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class HostStatus:
    """One host as one worker sees it; ``next_at`` is when it may be asked again, ISO 8601, empty
    for now; ``rate`` the worker's part of the allowed requests a second, None without limit."""

    worker: str
    host: str
    requests: int
    failures: int
    rejected: int
    circuit: str
    next_at: str
    rate: float | None
    last_error: str


def source_hosts(settings: Settings, graph: Graph) -> list[HostStatus]:
    """What every worker last said of each host.

    Raises KafkaException without a broker.
    """
    from schemas.codec import RecordCodec
    from streams.kafka.registry import open_registry

    topic = next(topic for topic in graph.topics.values() if topic.schema == _SCHEMA)
    values = _since(settings.kafka_bootstrap_servers, topic.name, time.time() - FRESH_S)
    if not values:
        return []
    codec = RecordCodec(topic.name, _SCHEMA, open_registry(settings))
    return newest_hosts(map(codec.decode, values), datetime.now(UTC))


def newest_hosts(records: Iterable[Mapping[str, Any]], now: datetime) -> list[HostStatus]:
    """The newest `source_host` record of each worker and host, those in trouble first."""
    newest = {(record["worker"], record["host"]): record for record in records}
    found = [
        HostStatus(
            worker=record["worker"],
            host=record["host"],
            requests=record["requests"],
            failures=record["failures"],
            rejected=record["rejected"],
            circuit=record["circuit"],
            next_at=_time(record["next_at"], now),
            rate=record["rate"],
            last_error=record["last_error"],
        )
        for record in newest.values()
        if (now - record["at"]).total_seconds() <= FRESH_S
    ]
    return sorted(found, key=lambda h: (h.circuit == "closed", not h.next_at, h.host, h.worker))


def _time(at: datetime | None, now: datetime) -> str:
    return at.isoformat(timespec="seconds") if at is not None and at > now else ""


def _since(bootstrap_servers: str, topic: str, at: float) -> list[bytes]:
    """The values that a topic of one partition got since ``at``; none if there is no such topic."""
    with LogReader(bootstrap_servers, _TIMEOUT_S, log_level=0) as logs:
        try:
            logs.partitions(topic)
        except KeyError:
            return []
        start, end = logs.offset_since(topic, 0, int(at * 1000)), logs.bounds(topic, 0)[1]
        found = [one.value() for records in logs.span(topic, 0, start, end) for one in records]
    return [value for value in found if value is not None]
