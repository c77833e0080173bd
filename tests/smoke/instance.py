"""A running instance of the platform, and how a test talks to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

from streams.cli.status import delta_rows, measure, process_status
from streams.kafka.log_reader import LogReader
from tests import waiting
from topology.graph import build_graph
from topology.settings import Settings, instance_file


@dataclass(frozen=True)
class Instance:
    """A home with something running in it, and how to talk to it."""

    home: Path
    report: dict[str, Any]
    variables: dict[str, str] = field(default_factory=dict)
    """Settings of its own."""

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PODSTREAM_")}
        return {**kept, **self.variables, "PODSTREAM_HOME": str(self.home)}

    @property
    def settings(self) -> Settings:
        return Settings(podstream_home=self.home, _env_file=instance_file(self.home))

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`podstream ARGUMENTS` against this instance."""
        return subprocess.run(
            [sys.executable, "-m", "streams.cli.main", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=options.pop("timeout", 240),
            check=False,
            **options,
        )

    def status(self) -> dict[str, Any]:
        """What `podstream status` says: a process that starts, so not for a loop."""
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def process(self, name: str) -> dict[str, Any]:
        """What the supervisor says of a process."""
        return next(asdict(p) for p in process_status(self.settings) if p.name == name)

    def lags(self) -> dict[str, int]:
        """How many records wait for each stage."""
        stages = measure(self.settings, delta=False).stages
        return {stage.name: stage.lag for stage in stages if stage.lag is not None}

    def dead_letters(self, topic: str) -> int:
        """How many records a dead-letter topic holds."""
        with LogReader(self.settings.kafka_bootstrap_servers) as logs:
            return sum(logs.ends(topic).values())

    def delta_rows(self, table: str) -> int:
        """Rows of a Delta table, 0 before its first commit."""
        graph = build_graph(self.settings.event_partitions)
        return next(s.rows for s in delta_rows(self.settings, graph) if s.name == table)

    @contextmanager
    def mongo(self) -> Iterator[Database[dict[str, Any]]]:
        """The database, for the length of a block."""
        uri = self.settings.mongodb_uri.get_secret_value()
        with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=30_000) as client:
            yield client[self.settings.mongodb_database]


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """`waiting.wait_until` with longer pauses: what a look costs, the platform does not have."""
    return waiting.wait_until(condition, timeout_s, what, every_s=1.0)
