"""`fetch_transcripts` on a real broker: a retry outlives kill -9, status shows its host, and two
workers share the rate."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from aiohttp import web

from schemas.codec import RecordCodec
from streams.cli.hosts import source_hosts
from streams.cli.local.ports import free_ports
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogReader
from streams.kafka.registry import open_registry
from tests.broker.workers import (
    instance,
)
from tests.paths import ROOT
from tests.served import answering, served
from tests.waiting import wait_until
from topology.graph import build_graph
from topology.settings import Settings

pytestmark = pytest.mark.broker

EPISODES = 6
PART = f"{0.5 / 3:.6f}"


class Host:
    def __init__(self) -> None:
        self.ready = False
        self.address = ""

    async def handle(self, _: web.Request) -> web.Response:
        if not self.ready:
            return web.Response(status=503)
        return web.Response(text="WEBVTT\n\n00:00.000 --> 00:05.000\nHello there.\n")


@contextmanager
def serving() -> Iterator[Host]:
    made = Host()
    with served(answering(made.handle)) as made.address:
        yield made


def worker(settings: Settings, host: Host, name: str, output: IO[bytes]) -> subprocess.Popen[Any]:
    (port,) = free_ports(1)
    home = settings.podstream_home
    script = str(Path(__file__).with_name("sharing_worker.py"))
    return subprocess.Popen(
        [sys.executable, script, str(home / f"part-{name}"), str(port)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PODSTREAM_HOME": str(home),
            "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "EVENT_PARTITIONS": str(settings.event_partitions),
            "F_DATADIR": str(home / name),
            "PODSTREAM_STAGES": "fetch_transcripts",
            "FETCH_ALLOW_HOSTS": host.address,
            "FETCH_RETRY_S": "2,2,2,2,2,2,2,2,2,2",
        },
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT,
    )


def test_a_retry_outlives_a_kill_and_two_workers_share_the_rate(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with serving() as host, instance(tmp_path) as settings, log.open("wb") as output:
        graph = build_graph(settings.event_partitions)
        registry = open_registry(settings)
        episodes = RecordCodec("episode-metadata", "episode", registry)
        transcripts = RecordCodec("episode-transcripts", "transcript", registry)
        writer = producer(settings.kafka_bootstrap_servers)
        for number in range(EPISODES):
            record = {
                "episode_id": f"pi:{number}",
                "title": "t",
                "show_id": "pi:99",
                "show_title": "s",
                "transcripts": [{"url": f"http://{host.address}/{number}.vtt", "type": "text/vtt"}],
                "source": "podcastindex",
            }
            writer.produce("episode-metadata", episodes.encode(record), key=f"pi:{number}")
        assert writer.flush(30) == 0

        def statuses() -> dict[str, str]:
            found = {}
            for value in _values(settings, "episode-transcripts"):
                transcript = transcripts.decode(value)
                found[transcript["episode_id"]] = transcript["status"]
            return found

        running = [worker(settings, host, "one", output)]
        try:
            _wait(lambda: list(statuses().values()) == ["failed"] * EPISODES, "told as failed")
            _wait(lambda: bool(source_hosts(settings, graph)), "host in status")
            (shown,) = source_hosts(settings, graph)
            assert shown.host == host.address
            assert shown.failures >= 5
            running[0].kill()
            running[0].wait()
            host.ready = True
            running += [worker(settings, host, name, output) for name in ("one", "two")]
            _wait(lambda: list(statuses().values()) == ["ok"] * EPISODES, "told as ok")
            # a partition each; this is one of the three stages that ask strangers' hosts
            parts = [tmp_path / f"part-{name}" for name in ("one", "two")]
            _wait(lambda: [p.read_text() for p in parts if p.exists()] == [PART] * 2, "parts")
        except TimeoutError as late:
            pytest.fail(f"{late}: {statuses()}\n{log.read_text()[-6000:]}")
        finally:
            for process in running:
                process.kill()
                process.wait()


def _values(settings: Settings, topic: str) -> list[bytes]:
    values = []
    with LogReader(settings.kafka_bootstrap_servers) as logs:
        for partition, end in logs.ends(topic).items():
            for records in logs.span(topic, partition, 0, end):
                values += [record.value() for record in records]
    return values


def _wait(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, 90, what)
