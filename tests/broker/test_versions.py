"""A rule changed beside what is live: rebuilt by other code, compared, promoted, taken back."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest

from schemas.codec import RecordCodec
from streams.kafka.clients import producer
from streams.kafka.log_reader import read_all
from streams.kafka.message import Message
from streams.kafka.registry import topic_registry
from tests.oracle import tables
from tests.oracle.check import Oracle
from tests.oracle.log import Entry
from tests.paths import ROOT
from tests.waiting import wait_until
from topology.access import admin_client
from topology.settings import Settings
from topology.versions import version_of

pytestmark = [pytest.mark.broker, pytest.mark.mongo, pytest.mark.timeout(600)]

PODSTREAM = [sys.executable, "-m", "streams.cli.main"]
PROCESSES = ("broker", "mongo", "batch_events", "track", "serve", "api")
START = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=14)
PACKAGES = ("schemas", "topology", "streams", "jobs", "dashboard")


class Instance:
    """An instance from the command line, in a home of its own."""

    def __init__(self, home: Path) -> None:
        spelled = {(field.alias or name).upper() for name, field in Settings.model_fields.items()}
        kept = {key: value for key, value in os.environ.items() if key not in spelled}
        self.home = home
        self.environment = {
            **kept,
            "PODSTREAM_HOME": str(home),
            "EVENT_PARTITIONS": "2",
            "PYTHONPATH": str(ROOT),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PODSTREAM, *arguments],
            env=self.environment,
            cwd=self.home.parent,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def podstream(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.podstream(*arguments, "--json"))

    def logs(self) -> str:
        logs = (self.home / "logs").glob("*.log")
        return "\n".join(f"{log}:\n{log.read_text()[-2000:]}" for log in sorted(logs))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    instance = Instance(tmp_path_factory.mktemp("versions") / "home")
    only = [word for name in PROCESSES for word in ("--only", name)]
    instance.podstream("up", "--detach", "--ports", "auto", *only)
    yield instance
    instance.run("down")


@pytest.fixture(scope="module")
def settings(platform: Instance) -> Settings:
    return Settings(**platform.json("env"))


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, changed as the walkthrough says: a stream is 30 seconds."""
    here = tmp_path_factory.mktemp("here")
    folder = here.parent / "half-a-minute"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
    (edit,) = re.findall(r"^sed -i .*\\\n.*$", text, re.MULTILINE)
    subprocess.run(shlex.split(edit.replace("\\\n", " ")), cwd=here, check=True)
    rule = Path("streams") / "engagement" / "core" / "audience.py"
    assert (folder / rule).read_text() != (ROOT / rule).read_text()
    return folder


class Listeners:
    """Writes events of some listeners."""

    def __init__(self, settings: Settings) -> None:
        self._registry = topic_registry(settings.kafka_bootstrap_servers)
        self._servers = settings.kafka_bootstrap_servers
        self._codec = RecordCodec("user-events", "user_event", self._registry)
        self._producer = producer(settings.kafka_bootstrap_servers)
        self._chance = random.Random(5)
        self._number = 0

    def write(self, number: int, episodes: int = 6) -> None:
        for _ in range(number):
            self._number += 1
            user = f"u{self._chance.randrange(40)}"
            self._write(user, f"pi:{self._chance.randrange(episodes)}", 600)
        assert self._producer.flush(30) == 0

    def go_on(self) -> None:
        """Some more of an episode that nobody looks at."""
        for _ in range(5):
            self._number += 1
            self._write(f"u{self._chance.randrange(40)}", "pi:other", 600)
        assert self._producer.flush(30) == 0

    def _write(self, user: str, episode: str, within_s: int) -> None:
        event = {
            "event_id": str(self._number),
            "user_id": user,
            "episode_id": episode,
            "kind": self._chance.choice(["impression", "play", "progress", "progress"]),
            "occurred_at": START + timedelta(seconds=self._chance.randrange(within_s)),
            "heard_ms": self._chance.randrange(40_000),
            "position_ms": 0,
        }
        self._producer.produce("user-events", self._codec.encode(event), key=user)

    def entries(self) -> dict[int, list[Entry]]:
        """The log of events as the oracle reads it."""
        found: dict[int, list[Entry]] = {0: [], 1: []}

        def apply(messages: list[Message]) -> None:
            for one in messages:
                at = datetime.fromtimestamp(one.timestamp_ms / 1000, UTC)
                found[one.partition].append(Entry(one.offset, at, self._codec.decode(one.value)))

        read_all(self._servers, ["user-events"], apply)
        return found


Streams = dict[tuple[str, str, int], int]
"""Episode, minute and source partition -> streams."""


def expected_streams(
    entries: dict[int, list[Entry]], stream_ms: int, monkeypatch: pytest.MonkeyPatch
) -> Streams:
    """What the oracle counts where a stream is so long."""
    monkeypatch.setattr(tables, "STREAM_MS", stream_ms)
    oracle = Oracle.of(entries, {}, lateness_s=900, dedup_window=100_000)
    return {
        (episode, minute.isoformat(), partition): row["streams"]
        for partition, rows in oracle.per_partition(tables.windows).items()
        for (episode, minute), row in rows.items()
    }


def test_a_changed_rule_is_rebuilt_compared_promoted_and_taken_back(
    platform: Instance, settings: Settings, changed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listeners = Listeners(settings)
    listeners.write(2000)

    # Killed at any moment, the same command goes on with the same version.
    command = [*PODSTREAM, "rebuild", "--code", str(changed)]
    process = subprocess.Popen(command, env=platform.environment, cwd=platform.home.parent)
    made = platform.home / "versions" / "v2" / "code"
    wait_until(made.is_dir, 60, "the code of the version")
    process.kill()
    process.wait()
    assert platform.podstream("rebuild", "--code", str(changed)).startswith("v2 has counted")
    listed = {row["version"]: row for row in platform.json("versions", "list")}
    assert listed.keys() == {"v1", "v2"}
    assert listed["v1"]["served"]
    assert listed["v2"]["code"] == str(changed)

    # Only streams differ, by exactly what the oracle says.
    entries = listeners.entries()
    assert sum(map(len, entries.values())) == 2000
    minute = expected_streams(entries, 60_000, monkeypatch)
    half = expected_streams(entries, 30_000, monkeypatch)
    differing = {place for place in minute if minute[place] != half[place]}
    assert minute.keys() == half.keys()
    done = platform.run("versions", "diff", "v1", "v2", "--json")
    assert done.returncode == 1, done.stderr
    diff = json.loads(done.stdout)
    found = {table["table"]: table for table in diff["tables"]}
    assert {name for name, table in found.items() if table["differs"]} == {
        "engagement-windows",
        "engagement-totals",
        "episode-days",
    }
    streams = {"a": sum(minute.values()), "b": sum(half.values())}
    assert streams["a"] < streams["b"]
    for table in found.values():
        assert table["moving"] == 0
        uneven = {name: sums for name, sums in table["sums"].items() if sums["a"] != sums["b"]}
        assert uneven == ({"streams": streams} if table["differs"] else {}), table["table"]
    windows = found["engagement-windows"]
    assert (windows["rows_a"], windows["changed"]) == (len(minute), len(differing))
    for one in windows["largest"]:
        key = one["key"]
        place = (key["episode_id"], key["bucket"], key["source_partition"])
        assert (one["a"]["streams"], one["b"]["streams"]) == (minute[place], half[place])
        assert {**one["a"], "streams": 0} == {**one["b"], "streams": 0}

    # Readers follow the pointer, each answer of one version, while events flow.
    totals = [
        {episode: sum(n for (name, *_), n in counted.items() if name == episode)}
        for counted in (minute, half)
        for episode in [max(place[0] for place in differing)]
    ]
    (episode,) = totals[0]
    before, after = (counted[episode] for counted in totals)
    assert before != after
    reader = Reader(f"{settings.api_url}/v1/episodes/{episode}/stats")
    with reader.reading(listeners.go_on):
        wait_until(lambda: reader.newest == before, 30, "the first version's numbers")
        assert "v2 is served" in platform.podstream("versions", "promote", "v2")
        wait_until(lambda: reader.newest == after, 30, "the numbers of what was promoted")
        refused = platform.run("versions", "retire", "v2")
        assert refused.returncode == 1
        assert "v2 is served" in refused.stderr
        assert "v1 is served" in platform.podstream("versions", "rollback")
        wait_until(lambda: reader.newest == before, 30, "the first version's numbers again")
    assert reader.seen == {before, after}

    # What is retired leaves nothing behind.
    platform.podstream("versions", "retire", "v2")
    (left,) = platform.json("versions", "list")
    assert (left["version"], left["served"]) == ("v1", True)
    admin = admin_client(settings.kafka_bootstrap_servers)
    wait_until(
        lambda: not [name for name in admin.list_topics(timeout=10).topics if version_of(name)],
        30,
        "no topic of the version",
    )
    with pymongo.MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client:
        assert "podstream-v2" not in client.list_database_names()
    processes = {process["name"] for process in platform.json("status")["processes"]}
    assert "track" in processes
    assert not {name for name in processes if name.startswith("v2-")}
    assert not made.exists()


class Reader:
    """Asks the API all the time, and holds each answer to be of one version."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.newest: int | None = None
        self.seen: set[int] = set()
        self.mixed: list[Any] = []

    @contextmanager
    def reading(self, meanwhile: Callable[[], None]) -> Iterator[None]:
        """Ask in a thread for as long as the block lasts, and do something between two answers."""
        done = threading.Event()

        def read() -> None:
            while not done.wait(0.05):
                self._read()
                meanwhile()

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        assert self.mixed == []

    def _read(self) -> None:
        """Ask once; an answer that could not wait for MongoDB says so, and is passed over."""
        try:
            with urllib.request.urlopen(self._url, timeout=10) as answer:  # noqa: S310 - our own
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                self.mixed.append(error.code)
            return
        if told["stale"]:
            return
        days = sum(day["streams"] for day in told["days"])
        (window,) = [one["counts"]["streams"] for one in told["windows"] if one["minutes"] == 1440]
        if days != window:
            self.mixed.append(told)
        self.newest = days
        self.seen.add(days)
