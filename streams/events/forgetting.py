"""Asks that a listener be forgotten: what `podstream forget` and the API do."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from streams.events.core.requests import problem
from streams.kafka.clients import DeliveryError, send_all
from streams.kafka.log_reader import LogReader
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from topology.graph import build_graph
from topology.settings import Settings
from topology.topics.events import FORGET_REQUESTS

TIMEOUT_S = 10.0


class ForgetRequests:
    """Writes requests to the log of an instance; any thread may ask.

    Nothing is connected before the first request.
    """

    def __init__(self, settings: Settings, timeout_s: float = TIMEOUT_S):
        self._settings = settings
        self._timeout_s = timeout_s
        self._wire: Wire | None = None
        self._opening = threading.Lock()

    def ask(self, user_id: str) -> None:
        """Return when a request is in the log: from then on it will be answered.

        ValueError for what can be nobody's id; DeliveryError, SilentLogError and KafkaException
        where the brokers do not take it.
        """
        if (why := problem(user_id)) is not None:
            raise ValueError(why)
        record = {"user_id": user_id, "requested_at": datetime.now(UTC)}
        sent = {"key": user_id.encode(), "value": self._open().encode(FORGET_REQUESTS.name, record)}
        servers = self._settings.kafka_bootstrap_servers
        send_all(servers, FORGET_REQUESTS.name, [sent], self._timeout_s)

    def _open(self) -> Wire:
        with self._opening:
            if self._wire is None:
                servers = self._settings.kafka_bootstrap_servers
                with LogReader(servers, self._timeout_s, log_level=0) as logs:
                    if not logs.exists(FORGET_REQUESTS.name):
                        raise DeliveryError("no such topic: run `podstream topology apply`")
                graph = build_graph(self._settings.event_partitions)
                self._wire = Wire(graph, open_registry(self._settings))
            return self._wire
