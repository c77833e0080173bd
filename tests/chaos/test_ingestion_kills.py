"""Kill -9 of real workers in the middle of a storm: the log says the same as after a calm run."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from functools import partial

import pytest

from streams.demo.misbehaviour import Plan
from streams.kafka.log_reader import LogReader, LogTail
from streams.kafka.message import Message
from streams.kafka.registry import topic_registry
from streams.kafka.wire import Wire
from streams.runtime.in_memory import MemoryRuntime
from tests.chaos.processes import Processes
from tests.chaos.stormy_index import (
    TELLING,
    Outcome,
    StormyIndex,
    check_counts,
    check_same,
    ingestion_stages,
    newest_ids,
    outcome,
    waits,
)
from tests.waiting import wait_for_rest, wait_until
from topology.graph import build_graph
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(400)]

PARTITIONS = 2
SEED, SHOWS = 6, 14
POISONED = newest_ids(2, SHOWS)
PLAN = Plan(SEED, 0.3, in_a_row=1, misleading=False, poisoned=POISONED)

GRAPH = build_graph(PARTITIONS)
STAGES = [stage.name for stage in ingestion_stages(GRAPH)]
KILLS = ("episode-ids", "episode-metadata", "episode-transcripts")
"""A worker is killed soon after it wrote to each of these."""

START_S, PATIENCE_S, QUIET_S = 90.0, 150.0, 12.0
"""What is tried again is looked for every five seconds: rest is longer."""


class Log:
    """What the topics hold."""

    def __init__(self, settings: Settings) -> None:
        self._bootstrap = settings.kafka_bootstrap_servers
        self._registry = topic_registry(self._bootstrap)
        self._wire = Wire(GRAPH, self._registry)
        self._logs = LogReader(self._bootstrap)

    def outcome(self) -> Outcome:
        return outcome(GRAPH, self._messages, self._wire.decode)

    def _messages(self, topic: str) -> list[Message]:
        found: list[Message] = []
        reading = LogTail(self._bootstrap, [topic])
        reading.read_to_end(found.extend)
        reading.close()
        return sorted(found, key=lambda message: (message.partition, message.offset))

    def close(self) -> None:
        self._logs.close()

    def size(self, *topics: str) -> int:
        return sum(sum(self._logs.ends(topic).values()) for topic in topics)

    def reaches(self, size: int, topic: str) -> bool:
        return self.size(topic) >= size


def wait(done: Callable[[], bool], processes: Processes, patience_s: float) -> None:
    wait_until(done, patience_s, "what the workers do", every_s=0.01, check=processes.check)


def ended(found: Outcome, ids: set[str]) -> bool:
    """Whether every id is an episode with a transcript record, or dead."""
    all_there = found.episodes.keys() | found.dead.keys() == ids
    return all_there and found.transcripts.keys() == found.episodes.keys()


def undisturbed() -> Outcome:
    """What the same storm leaves on the in-memory log."""
    with StormyIndex(PLAN, SHOWS, skipping=True) as index:
        flow = MemoryRuntime(GRAPH, Settings(**index.settings), clock=index.clock)
        for stage in STAGES:
            flow.start(stage)

        def found() -> Outcome:
            return outcome(GRAPH, flow.log.records, flow.log.wire.decode)

        def calm() -> bool:
            index.clock.skip(0.25)
            flow.run()
            return ended(found(), index.episode_ids) and not waits(flow)

        wait_until(calm, PATIENCE_S, "an end of every episode", every_s=0.05)
        return found().at("the.index", index.host)


def test_killed_workers_leave_what_an_undisturbed_one_does(settings: Settings) -> None:
    expected = undisturbed()
    chance, lives = random.Random(SEED), 0
    with StormyIndex(PLAN, SHOWS) as index:
        settings = Settings(
            podstream_home=settings.podstream_home,
            kafka_bootstrap_servers=settings.kafka_bootstrap_servers,
            event_partitions=PARTITIONS,
            **index.settings,
        )
        processes, log = Processes(settings), Log(settings)
        try:
            for topic in KILLS:
                before = log.size(topic) + chance.randint(1, 30)
                processes.start_worker("one", STAGES)
                wait(partial(log.reaches, before, topic), processes, START_S)
                processes.end("one", signal.SIGKILL)
            processes.start_worker("one", STAGES)
            processes.start_worker("two", STAGES)
            before = log.size("episode-transcripts") + 10
            wait(partial(log.reaches, before, "episode-transcripts"), processes, START_S)
            processes.end("one", signal.SIGKILL)
            lives = len(KILLS) + 2
            finished(log, processes, index.episode_ids)
            found = log.outcome().at("the.index", index.host)
            assert processes.end("two", signal.SIGTERM) == 0
        finally:
            processes.kill_all()
            log.close()
        counts = index.counts()
    poisoned = {f"pi:{number}" for number in POISONED}
    check_same(expected.without(poisoned), found.without(poisoned))
    check_counts(counts, found, lives)


def finished(log: Log, processes: Processes, ids: set[str]) -> None:
    """Return once every id has ended, and nothing has been written for a while."""
    written = {topic for stage in ingestion_stages(GRAPH) for topic in stage.produces}
    topics = written - TELLING

    wait_until(
        lambda: ended(log.outcome(), ids),
        PATIENCE_S,
        "an end of every episode",
        every_s=1.0,  # a look reads everything, and takes from the workers what it costs
        check=processes.check,
    )
    wait_for_rest(
        lambda: log.size(*topics),
        QUIET_S,
        PATIENCE_S,
        "outputs that come to rest",
        check=processes.check,
    )
