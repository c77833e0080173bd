"""Logs are read to their ends, whatever their offsets hold, and a silent broker is told of."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.cli.local.broker import running_broker
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogReader, LogTail, SilentLogError, read_all
from streams.kafka.message import Message

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]


def _create(broker: str, partitions: int = 2, **config: str) -> str:
    name = f"reader-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(30)
    return name


@pytest.fixture
def topic(broker: str) -> str:
    return _create(broker)


def _write(broker: str, topic: str, values: list[bytes], key: bytes | None = None) -> None:
    writer = producer(broker)
    for value in values:
        writer.produce(topic, value, key, partition=0)
    assert writer.flush(30) == 0


def _values(logs: LogReader, topic: str, start: int, end: int) -> list[bytes | None]:
    return [record.value() for records in logs.span(topic, 0, start, end) for record in records]


def _last(logs: LogReader, topic: str) -> bytes | None:
    record = logs.last(topic, 0)
    return record and record.value()


def test_an_end_that_holds_no_record_is_reached(broker: str, topic: str) -> None:
    writer = producer(broker, **{"transactional.id": topic})
    writer.init_transactions(30)
    tail, found = LogTail(broker, [topic]), list[Message]()
    for value in (b"one", b"two"):
        # A transaction ends with a marker, which takes an offset and is no record.
        writer.begin_transaction()
        writer.produce(topic, value, partition=0)
        writer.commit_transaction(30)
        tail.read_to_end(found.extend)
        tail.read_to_end(found.extend)
    tail.close()
    assert [message.value for message in found] == [b"one", b"two"]


def test_an_empty_topic_is_at_its_end(broker: str, topic: str) -> None:
    read_all(broker, [topic], lambda messages: pytest.fail(f"{messages}"))
    with LogReader(broker) as logs:
        assert logs.ends(topic) == {0: 0, 1: 0}
        assert logs.last(topic, 0) is None


def test_a_topic_that_is_not_there_is_a_key_error(broker: str) -> None:
    with pytest.raises(KeyError, match="topic no-such does not exist: run `podstream topology"):
        LogTail(broker, ["no-such"])
    with LogReader(broker) as logs, pytest.raises(KeyError):
        logs.ends("no-such")


def test_a_span_is_what_was_asked_for(broker: str, topic: str) -> None:
    _write(broker, topic, [str(number).encode() for number in range(100)])
    with LogReader(broker) as logs:
        assert logs.bounds(topic, 0) == (0, 100)
        assert _values(logs, topic, 10, 13) == [b"10", b"11", b"12"]
        assert _values(logs, topic, 97, 100) == [b"97", b"98", b"99"]
        assert _values(logs, topic, 5, 5) == []
        assert [len(one) for one in logs.span(topic, 0, 0, 25, limit=10)] == [10, 10, 5]
        assert _last(logs, topic) == b"99"


def test_offsets_are_found_by_time(broker: str, topic: str) -> None:
    _write(broker, topic, [b"a", b"b"])
    with LogReader(broker) as logs:
        assert logs.offset_since(topic, 0, 0) == 0
        assert logs.offset_since(topic, 0, int(time.time() * 1000) + 3_600_000) == 2


def test_markers_and_aborted_records_are_holes(broker: str, topic: str) -> None:
    writer = producer(broker, **{"transactional.id": topic})
    writer.init_transactions(30)
    for value, end in ((b"good", writer.commit_transaction), (b"bad", writer.abort_transaction)):
        writer.begin_transaction()
        writer.produce(topic, value, partition=0)
        writer.flush(30)
        end(30)
    with LogReader(broker, silence_s=10) as logs:
        # a record and its marker, twice
        assert logs.bounds(topic, 0) == (0, 4)
        assert _values(logs, topic, 0, 4) == [b"good"]
        assert _values(logs, topic, 1, 4) == []
        assert logs.last(topic, 0) is None


def test_an_undecided_transaction_is_after_the_end(broker: str, topic: str) -> None:
    _write(broker, topic, [b"before"])
    writer = producer(broker, **{"transactional.id": topic})
    writer.init_transactions(30)
    writer.begin_transaction()
    writer.produce(topic, b"undecided", partition=0)
    writer.flush(30)
    found: list[Message] = []
    with LogReader(broker, silence_s=10) as logs:
        assert _values(logs, topic, *logs.bounds(topic, 0)) == [b"before"]
    read_all(broker, [topic], found.extend, silence_s=10)
    assert [message.value for message in found] == [b"before"]
    writer.abort_transaction(30)


def test_what_was_truncated_is_a_hole(broker: str, topic: str) -> None:
    _write(broker, topic, [str(number).encode() for number in range(10)])
    admin = AdminClient({"bootstrap.servers": broker})
    for offset, left in ((7, [b"7", b"8", b"9"]), (10, [])):
        (truncated,) = admin.delete_records([TopicPartition(topic, 0, offset)]).values()
        truncated.result(30)
        with LogReader(broker, silence_s=10) as logs:
            assert logs.bounds(topic, 0) == (offset, 10)
            assert _values(logs, topic, 0, 10) == left
            assert _values(logs, topic, 2, 5) == []
        found: list[Message] = []
        read_all(broker, [topic], found.extend, silence_s=10)
        assert [message.value for message in found] == left


def test_what_was_compacted_is_a_hole(broker: str) -> None:
    topic = _create(
        broker,
        1,
        **{
            "cleanup.policy": "compact",
            "segment.ms": "100",
            "min.cleanable.dirty.ratio": "0.001",
            "max.compaction.lag.ms": "100",
        },
    )
    for number in range(5):
        _write(broker, topic, [b"%d" % number] * 20, key=b"k")
        time.sleep(0.2)
    deadline = time.monotonic() + 60
    with LogReader(broker, silence_s=10) as logs:
        while len(found := _values(logs, topic, *logs.bounds(topic, 0))) == 100:
            assert time.monotonic() < deadline, "the broker does not compact"
            time.sleep(0.5)
        # The last record of a log stays.
        assert found[-1] == b"4"
        assert _last(logs, topic) == b"4"
        assert _values(logs, topic, 1, 3) == []


def test_a_broker_that_falls_silent_is_told_of_in_time(tmp_path: Path) -> None:
    silence_s = 3.0
    with running_broker(tmp_path) as broker:
        topic = _create(broker, 1)
        _write(broker, topic, [b"a"])
        logs, tail = LogReader(broker, silence_s, log_level=0), LogTail(broker, [topic], silence_s)
        tail.read_to_end(lambda messages: None)
        # It ends one record later than it does: that one never comes.
        span = logs.span(topic, 0, 0, 2)
        assert [record.value() for record in next(span)] == [b"a"]
    for asked, sentence in (
        (
            lambda: next(span),
            rf"{topic}\[0\] gives nothing from offset 1 on, although it ends at 2",
        ),
        (lambda: logs.bounds(topic, 0), rf"not answered for 3 s about {topic}\[0\]"),
        (lambda: logs.ends(topic), f"not answered for 3 s about {topic}"),
        (lambda: tail.read_to_end(lambda _: None), rf"not answered for 3 s about {topic}\[0\]"),
    ):
        started = time.monotonic()
        with pytest.raises(SilentLogError, match=sentence):
            asked()
        assert time.monotonic() - started < silence_s + 3
    logs.close()
    tail.close()
