"""Feeds to episodes and transcripts: one and two workers beside a script, from one local index.

Every show of the demo index, several times over, is followed as an RSS feed: discovered,
downloaded, its transcripts fetched and parsed, all of it on a real broker with real Faust workers.
The index answers at once, and then as slowly as servers far away. The clock starts when it lets
everybody in, the workers being ready. Progress goes to stderr, JSON to stdout.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import machine
import requests
from ingestion_path import script
from live_path.cluster import BenchmarkError, Cluster, Processes, running_processes, say

from schemas.codec import RecordCodec
from streams.cli.local.broker import running_broker
from streams.cli.local.instance import variables
from streams.cli.local.ports import free_ports
from streams.demo.demo_catalogue import FIRST_FEED_ID, build_catalogue
from streams.kafka.log_reader import LogTail
from topology.graph import build_graph, is_on
from topology.settings import LOOPBACK, Settings
from topology.topics.ingest import EPISODE_METADATA
from topology.topics.transcripts import EPISODE_TRANSCRIPTS

PARTITIONS = 2
GRAPH = build_graph(PARTITIONS)
STAGES = [
    stage.name
    for stage in GRAPH.stages.values()
    if stage.worker == GRAPH.stages["discover_episodes"].worker and is_on(stage, Settings())
]
EPISODES, TRANSCRIPTS = EPISODE_METADATA.name, EPISODE_TRANSCRIPTS.name
FOLDER = Path(__file__).parent / "ingestion_path"
TIMEOUT_S = 600.0


def main() -> None:
    """Measure ours and the script in one run and print JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--copies", type=int, default=4, help="times the demo's 42 shows")
    parser.add_argument("--delay-ms", type=int, default=50, help="of a server far away")
    parser.add_argument("--script-feeds", type=int, default=42, help="how many the script reads")
    options = parser.parse_args()
    figures = {}
    with (
        tempfile.TemporaryDirectory(prefix="ingestion-") as folder,
        running_broker(Path(folder)) as bootstrap,
    ):
        for name, delay_ms in {"local": 0, "far_away": options.delay_ms}.items():
            figures[name] = measure(Path(folder), bootstrap, delay_ms, options)
    machine.report("ingestion", {"copies": options.copies, **figures})


def measure(
    home: Path, bootstrap: str, delay_ms: int, options: argparse.Namespace
) -> dict[str, Any]:
    """The script, one worker and two, one after the other, each with an index of its own."""
    feeds = [FIRST_FEED_ID + n for n in range(options.copies * len(build_catalogue().shows))]
    found: dict[str, Any] = {"delay_ms": delay_ms}
    for workers in (0, 1, 2):
        (port,) = free_ports(1)
        urls = [f"http://{LOOPBACK}:{port}/feeds/{feed_id}.xml" for feed_id in feeds]
        settings = Settings(
            podstream_home=home,
            kafka_bootstrap_servers=bootstrap,
            event_partitions=PARTITIONS,
            rss_feeds=tuple(urls),
            fetch_allow_hosts=(f"{LOOPBACK}:{port}",),
            fetch_timeout_s=120.0,  # the gate holds the first request until all is ready
        )
        with running_processes(settings) as processes:
            arguments = [str(port), str(options.copies), str(delay_ms)]
            processes.start("index", [str(FOLDER / "index.py"), *arguments])
            if workers == 0:
                say(f"script, {delay_ms} ms")
                open_gate(port, processes)
                found["script"] = script.run(urls[: options.script_feeds], home / "script.jsonl")
            else:
                say(f"{workers} workers, {delay_ms} ms")
                expected = options.copies * len(build_catalogue().episodes)
                found[f"workers_{workers}"] = ours(settings, processes, port, workers, expected)
    for workers in (1, 2):
        rate = found[f"workers_{workers}"]["transcripts_per_s"]
        ratio = rate / found["script"]["transcripts_per_s"]
        found[f"workers_{workers}_to_script"] = round(ratio, 2)
    return found


def ours(
    settings: Settings, processes: Processes, port: int, workers: int, expected: int
) -> dict[str, Any]:
    """How fast that many workers put all episodes and transcripts into their topics."""
    with fresh_cluster(settings) as cluster:
        for number in range(workers):
            (web_port,) = free_ports(1)
            datadir = str(settings.podstream_home / f"worker-{time.monotonic_ns()}")
            options = ["--datadir", datadir, "worker", "--web-port", str(web_port), "-l", "warn"]
            processes.start(
                f"worker-{number}",
                ["-m", "faust", "-A", "streams.app", *options],
                {**variables(settings), "PODSTREAM_STAGES": ",".join(STAGES)},
            )
        consuming = [name for name in STAGES if GRAPH.stages[name].consumes]
        cluster.wait_for_members(consuming, processes, workers)
        processes.mark()
        opened_ms = time.time() * 1000
        open_gate(port, processes)
        last_ms = {
            topic: last_of(cluster, topic, processes, expected) for topic in (EPISODES, TRANSCRIPTS)
        }
        counts = requests.get(f"http://{LOOPBACK}:{port}/demo/requests", timeout=30).json()
        return {
            "episodes": expected,
            "episodes_per_s": rate(expected, last_ms[EPISODES] - opened_ms),
            "transcripts_per_s": rate(expected, last_ms[TRANSCRIPTS] - opened_ms),
            "requests": sum(counts["requests"].values()),
            "usage": processes.usage(),
        }


def last_of(cluster: Cluster, topic: str, processes: Processes, expected: int) -> float:
    """When, in milliseconds, the last of the expected ids came; all transcripts must be good."""
    schema = GRAPH.topics[topic].schema
    codec = RecordCodec(topic, str(schema), cluster.registry)
    first_seen_ms: dict[bytes | None, int] = {}
    reader = LogTail(cluster.bootstrap, [topic])
    try:

        def complete() -> bool:
            for message in reader.poll(0.1):
                if topic == TRANSCRIPTS:
                    record = codec.decode(message.value)
                    if record["status"] != "ok":
                        raise BenchmarkError(f"{record['url']}: {record['reason']}")
                first_seen_ms.setdefault(message.key, message.timestamp_ms)
            return len(first_seen_ms) >= expected

        processes.wait(complete, f"{topic} has {expected} ids", TIMEOUT_S, every_s=0.05)
    finally:
        reader.close()
    return max(first_seen_ms.values())


def rate(number: int, took_ms: float) -> float:
    """How many a second, of a number in so many milliseconds."""
    return round(number * 1000 / took_ms, 1)


@contextmanager
def fresh_cluster(settings: Settings) -> Iterator[Cluster]:
    """The topics, empty; schemas stay."""
    cluster = Cluster(settings)
    cluster.reset()
    yield cluster


def open_gate(port: int, processes: Processes) -> None:
    """Let the index answer, once it listens."""

    def opened() -> bool:
        try:
            return requests.get(f"http://{LOOPBACK}:{port}/gate/open", timeout=5).ok
        except requests.ConnectionError:
            return False

    processes.wait(opened, "the index listens", 60)


if __name__ == "__main__":
    main()
