"""The commands that a process sends to MongoDB, as they are sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pymongo import monitoring

WRITES = ("insert", "update", "delete")
READS = ("find", "aggregate", "count", "distinct", "mapReduce")

Command = Mapping[str, Any]


class Recorder(monitoring.CommandListener):
    """Notes the commands to some databases, of all clients that are made after it."""

    def __init__(self) -> None:
        self._recorded: dict[str, list[Command]] = {}
        self._lock = threading.Lock()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """A command is sent."""
        with self._lock:
            if event.database_name in self._recorded:
                self._recorded[event.database_name].append(dict(event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to note."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to note."""

    @contextmanager
    def recording(self, database: str) -> Iterator[list[Command]]:
        """The commands to a database while the block runs."""
        self._recorded[database] = []
        try:
            yield self._recorded[database]
        finally:
            del self._recorded[database]


RECORDER = Recorder()
monitoring.register(RECORDER)


def reads(commands: list[Command]) -> list[Command]:
    """Those that ask, without the further batches of an answer."""
    return [command for command in commands if next(iter(command)) in READS]
