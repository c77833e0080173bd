"""Following feeds on real workers: they share them, and a kill -9 loses and repeats nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from streams.cli.local.ports import free_ports
from streams.kafka.log_reader import LogTail
from streams.kafka.registry import topic_registry
from streams.kafka.wire import Wire
from tests.broker.workers import (
    instance,
)
from tests.paths import ROOT
from topology.graph import build_graph
from topology.settings import Settings

pytestmark = pytest.mark.broker

FEEDS = 12
INTERVAL_S = 2


class FeedServer(ThreadingHTTPServer):
    """Feeds of one episode, which counts how often each was sent whole and how often asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FeedHandler)
        self.sent: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{self.server_port}/{n}.xml" for n in range(FEEDS)]


class FeedHandler(BaseHTTPRequestHandler):
    server: FeedServer

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        unchanged = self.headers["If-None-Match"] == '"1"'
        body = b"" if unchanged else b"<rss><channel><item><guid>g</guid></item></channel></rss>"
        self.server.sent[self.path] += not unchanged
        self.send_response(304 if unchanged else 200)
        self.send_header("ETag", '"1"')
        if not unchanged:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def feed_server() -> Iterator[FeedServer]:
    with FeedServer() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def worker(settings: Settings, feeds: FeedServer, name: str) -> Iterator[subprocess.Popen[Any]]:
    (port,) = free_ports(1)
    faust = [sys.executable, "-m", "faust", "-A", "streams.app", "--datadir"]
    folder = settings.podstream_home / name
    variables = {
        "PYTHONPATH": str(ROOT),
        "PODSTREAM_HOME": str(settings.podstream_home),
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "EVENT_PARTITIONS": str(settings.event_partitions),
        "PODSTREAM_STAGES": "announce_feeds,discover_episodes",
        "RSS_FEEDS": ",".join(feeds.urls),
        "FETCH_ALLOW_HOSTS": f"127.0.0.1:{feeds.server_port}",
        "DISCOVER_INTERVAL_S": str(INTERVAL_S),
    }
    with (settings.podstream_home / f"{name}.log").open("wb") as output:
        process = subprocess.Popen(
            [*faust, str(folder), "-l", "info", "worker", "--without-web", "--web-port", str(port)],
            env={**os.environ, **variables},
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def announced(settings: Settings) -> Counter[str]:
    """How often each feed's episode is in the log."""
    registry = topic_registry(settings.kafka_bootstrap_servers)
    wire = Wire(build_graph(settings.event_partitions), registry)
    reader = LogTail(settings.kafka_bootstrap_servers, ["episode-ids"])
    messages: list[Any] = []
    reader.read_to_end(messages.extend)
    reader.close()
    found = Counter(wire.decode("episode-ids", m.value)["feed_id"] for m in messages)
    return found


def logs(settings: Settings) -> str:
    return "\n\n".join(p.read_text()[-6000:] for p in settings.podstream_home.glob("*.log"))


def wait(what: Callable[[], bool], settings: Settings, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > deadline:
            pytest.fail(logs(settings))
        time.sleep(0.2)


def test_workers_share_feeds_and_go_on_where_a_killed_one_was(tmp_path: Path) -> None:
    with instance(tmp_path) as settings, feed_server() as feeds, ExitStack() as running:
        first = running.enter_context(worker(settings, feeds, "first"))
        wait(lambda: len(feeds.asked) == FEEDS and min(feeds.asked.values()) >= 2, settings)
        running.enter_context(worker(settings, feeds, "second"))
        second_log = settings.podstream_home / "second.log"
        wait(lambda: b"[^Worker]: Ready" in second_log.read_bytes(), settings)
        first.kill()
        first.wait()
        feeds.asked.clear()
        wait(lambda: len(feeds.asked) == FEEDS, settings)
        assert announced(settings) == Counter(feeds.urls), logs(settings)
        assert set(feeds.sent.values()) == {1}, logs(settings)
