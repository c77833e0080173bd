"""A topic is read to its end, whatever its last offsets hold."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from streams.kafka.clients import TopicReader, producer
from streams.kafka.message import Message

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]


@pytest.fixture
def topic(broker: str) -> str:
    name = f"reader-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(name, 2, 1)])[name].result(30)
    return name


def test_an_end_that_holds_no_record_is_reached(broker: str, topic: str) -> None:
    writer = producer(broker, **{"transactional.id": topic})
    writer.init_transactions(30)
    reading, found = TopicReader(broker, [topic]), list[Message]()
    for value in (b"one", b"two"):
        # A transaction ends with a marker, which takes an offset and is no record.
        writer.begin_transaction()
        writer.produce(topic, value, partition=0)
        writer.commit_transaction(30)
        reading.read_to_end(found.extend)
        reading.read_to_end(found.extend)
    reading.close()
    assert [message.value for message in found] == [b"one", b"two"]


def test_an_empty_topic_is_at_its_end(broker: str, topic: str) -> None:
    reading = TopicReader(broker, [topic])
    reading.read_to_end(lambda messages: pytest.fail(f"{messages}"))
    reading.close()
