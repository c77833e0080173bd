"""Both runners keep the promises of `Context`: Faust on a broker, and the one in memory."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streams.kafka.clients import producer
from streams.kafka.letters import error_of
from streams.kafka.log_reader import read_all
from streams.kafka.message import Message
from streams.kafka.sizes import KEPT_BYTES, LARGEST_RECORD_BYTES
from streams.runtime.in_memory import MemoryRuntime
from tests.broker.probe import MAX_BATCH, PARTITIONS, Declared, TrippedError, declared
from tests.broker.workers import start
from tests.waiting import wait_until
from topology.graph import dead_letter_name
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(240)]

Order = dict[str, Any]


class Runner(Protocol):
    """A probe on a runner, which is started again whenever it ends."""

    declared: Declared

    def write(self, topic: str, partition: int, *values: bytes) -> None:
        """Append records to a topic."""

    def until(self, reached: Callable[[], bool], what: str) -> None:
        """Let the stage work until something is so."""

    def records(self, topic: str) -> list[Message]:
        """Everything in a topic."""

    def kill(self) -> None:
        """End the process as by kill -9, and start it again."""

    def rebalance(self) -> None:
        """Let the partitions leave the process, and come back."""


class InMemory:
    """The probe on the runner in memory."""

    def __init__(self, parts: Declared, home: Path):
        self.declared = parts
        self._runtime = MemoryRuntime(parts.graph, Settings(podstream_home=home))
        self._name = parts.stage.name
        self._runtime.start(self._name)

    def write(self, topic: str, partition: int, *values: bytes) -> None:
        for value in values:
            self._runtime.log.append(topic, value, partition=partition)

    def until(self, reached: Callable[[], bool], what: str) -> None:
        for _ in range(10):
            try:
                self._runtime.run()
            except TrippedError:
                continue
            break
        assert reached(), what

    def records(self, topic: str) -> list[Message]:
        return self._runtime.log.records(topic)

    def kill(self) -> None:
        self._runtime.crash(self._name)

    def rebalance(self) -> None:
        self._runtime.rebalance(self._name)


class OnFaust:
    """The probe in a worker process on a broker."""

    def __init__(self, parts: Declared, home: Path, broker: str):
        self.declared = parts
        self._broker = broker
        self._settings = Settings(podstream_home=home, kafka_bootstrap_servers=broker)
        topics = [
            NewTopic(topic.name, topic.partitions, 1, config=topic.config())
            for topic in parts.graph.topics.values()
        ]
        admin = AdminClient({"bootstrap.servers": broker})
        for made in admin.create_topics(topics).values():
            made.result(30)
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, topic: str, partition: int, *values: bytes) -> None:
        writer = producer(self._broker, **{"message.max.bytes": 2 * LARGEST_RECORD_BYTES})
        for value in values:
            writer.produce(topic, value, partition=partition)
        assert writer.flush(30) == 0

    def until(self, reached: Callable[[], bool], what: str) -> None:
        wait_until(lambda: self._running() and reached(), 120, what)

    def _running(self) -> bool:
        """Start the worker where it has ended."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        return True

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._settings.podstream_home / "worker.log").open("ab") as output:
            name = self.declared.stage.name
            return start(self._settings, "probe_worker.py", name, output=output)

    def records(self, topic: str) -> list[Message]:
        found: list[Message] = []
        read_all(self._broker, [topic], found.extend)
        return sorted(found, key=lambda message: (message.partition, message.offset))

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def rebalance(self) -> None:
        known = {said["process"] for partition in told(self) for said in partition}
        other = self._start()

        def has_come() -> bool:
            for partition in range(PARTITIONS):
                order(self, partition, {"add": 0})
            return any(said["process"] not in known for part in told(self) for said in part)

        try:
            wait_until(has_come, 60, "another worker has partitions")
        finally:
            _end(other)

    def stop(self) -> None:
        if self._process is not None:
            _end(self._process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(params=["in memory", "on Faust"])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runner]:
    """A probe of its own on each of the runners."""
    parts = declared(f"probe-{uuid4().hex[:8]}")
    if request.param == "in memory":
        yield InMemory(parts, tmp_path)
        return
    faust = OnFaust(parts, tmp_path, request.getfixturevalue("broker"))
    try:
        yield faust
    finally:
        faust.stop()


def order(runner: Runner, partition: int, *orders: Order) -> None:
    runner.write(runner.declared.orders.name, partition, *(json.dumps(o).encode() for o in orders))


def told(runner: Runner) -> list[list[dict[str, Any]]]:
    """What the stage told of the orders, by partition."""
    found: list[list[dict[str, Any]]] = [[] for _ in range(PARTITIONS)]
    for message in runner.records(runner.declared.told.name):
        value = message.value or b""
        # What is large is no JSON.
        said = json.loads(value) if value.startswith(b"{") else {}
        if "offset" in said:
            found[message.partition].append(said)
    return found


def heard(runner: Runner, *offsets: int) -> Callable[[], bool]:
    """Whether the stage has told of the last order of each partition."""
    return lambda: all(
        any(said["offset"] == last for said in told(runner)[partition])
        for partition, last in enumerate(offsets)
        if last >= 0
    )


def test_every_order_is_handled_in_order_after_what_is_known(runner: Runner) -> None:
    runner.write(runner.declared.known.name, 0, *[b"fact"] * 30)
    for partition in range(PARTITIONS):
        order(runner, partition, *({"add": 1} for _ in range(40)))
    runner.until(heard(runner, 39, 39), "every order")
    for said in told(runner):
        assert [one["offset"] for one in said] == list(range(40))
        assert [one["sum"] for one in said] == list(range(1, 41))
        assert all(one["known"] == 30 for one in said)
        assert all(1 <= one["batch"] <= MAX_BATCH for one in said)


def test_what_still_comes_is_waited_for_where_the_stage_says_so(runner: Runner) -> None:
    order(runner, 0, {"add": 1})
    runner.until(heard(runner, 0, -1), "the stage is at work")
    for _ in range(2):
        runner.write(runner.declared.letters.name, 0, b"letter")
        time.sleep(0.3)

    def letters() -> list[int]:
        values = [m.value or b"" for m in runner.records(runner.declared.told.name)]
        return [json.loads(value)["letters"] for value in values if b"letters" in value]

    runner.until(lambda: sum(letters()) == 2, "both letters")
    assert letters() == [2]


def test_a_stage_is_told_that_partitions_move(runner: Runner) -> None:
    order(runner, 0, {"add": 20})
    runner.until(heard(runner, 0, -1), "the first order")
    (before,) = told(runner)[0]
    assert before["moves"] >= 1
    runner.rebalance()
    order(runner, 0, {"add": 22})
    runner.until(lambda: told(runner)[0][-1]["sum"] == 42, "the order after the rebalance")
    after = told(runner)[0][-1]
    assert after["process"] == before["process"]
    assert after["moves"] > before["moves"]


def test_what_a_timer_sends_arrives(runner: Runner) -> None:
    name = runner.declared.told.name
    runner.until(lambda: any(b"tick" in (m.value or b"") for m in runner.records(name)), "a tick")


def test_what_cannot_be_used_is_put_aside_and_stops_nothing(runner: Runner) -> None:
    order(runner, 0, {"add": 5})
    runner.write(runner.declared.orders.name, 0, b"\xffgarbage")
    order(runner, 0, {"add": 7})
    runner.until(heard(runner, 2, -1), "the order behind")
    (dead,) = runner.records(dead_letter_name(runner.declared.orders.name))
    assert dead.value == b"\xffgarbage"
    said = dict(dead.headers)
    assert b"1" in said.values()
    assert runner.declared.orders.name.encode() in said.values()
    assert told(runner)[0][-1]["sum"] == 12


def test_what_its_topic_does_not_take_is_put_aside_and_stops_nothing(runner: Runner) -> None:
    most = runner.declared.told.max_message_bytes
    larger = most + 100_000
    order(runner, 0, {"add": 5, "large": larger}, {"add": 7, "large": most // 2})
    runner.until(heard(runner, 1, -1), "the order behind")
    (dead,) = runner.records(dead_letter_name(runner.declared.told.name))
    error = error_of(dead.headers)
    assert error["class.name"] == "RecordTooLargeError"
    assert f"takes {most:,}" in error["exception.message"]
    assert error["value.bytes"] == str(larger)
    large = [m for m in runner.records(runner.declared.told.name) if len(m.value or b"") > 1000]
    assert [len(m.value or b"") for m in large] == [most // 2]


def test_a_bomb_is_put_aside_and_stops_nothing(runner: Runner) -> None:
    """A few thousand bytes to the broker, and more than any record may have to whoever reads."""
    bomb = bytes(LARGEST_RECORD_BYTES + 1)
    runner.write(runner.declared.orders.name, 0, bomb)
    order(runner, 0, {"add": 7})
    runner.until(heard(runner, 1, -1), "the order behind")
    (dead,) = runner.records(dead_letter_name(runner.declared.orders.name))
    assert error_of(dead.headers)["value.bytes"] == str(len(bomb))
    assert dead.value == bytes(KEPT_BYTES)


@pytest.mark.parametrize("where", ["unflushed", "flushed", "confirming"])
def test_what_raises_comes_again_and_counts_once(
    runner: Runner, where: str, tmp_path: Path
) -> None:
    bad = {"add": 100, "raise": where, "flag": str(tmp_path / "tripped")}
    order(runner, 0, {"add": 1}, bad, {"add": 1})
    order(runner, 1, {"add": 3})
    runner.until(lambda: (tmp_path / "tripped").exists(), "the first time")
    # Told again, after the process has ended and come back: both orders in one batch, or not.
    again = "the second time"
    runner.until(
        lambda: (
            sum(said["offset"] == 1 for said in told(runner)[0]) >= 1
            and heard(runner, 2, 0)()
            and _restarted(runner, where)
        ),
        again,
    )
    assert told(runner)[0][-1]["sum"] == 102
    assert told(runner)[1][-1]["sum"] == 3
    sums = {said["offset"]: said["sum"] for said in told(runner)[0]}
    assert sums[2] == 102


def _restarted(runner: Runner, where: str) -> bool:
    """Whether an order that was told before the end was told once more."""
    times = [said["offset"] for said in told(runner)[0]].count(1)
    return times >= (1 if where == "unflushed" else 2)


def test_state_is_there_after_a_kill(runner: Runner) -> None:
    order(runner, 0, {"add": 20}, {"add": 22})
    runner.until(heard(runner, 1, -1), "both orders")
    runner.kill()
    order(runner, 0, {"add": 100})
    runner.until(heard(runner, 2, -1), "the order after the kill")
    assert told(runner)[0][-1]["sum"] == 142
