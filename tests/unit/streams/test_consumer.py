"""A record that was skipped is noticed."""

from __future__ import annotations

import faust
import pytest
from faust.types import TP

from streams.consumer import Consumer, SkippedError, Transport

EVENTS = TP("events", 0)


async def _nothing(*_) -> None:
    """What is called with records and at rebalances."""


@pytest.fixture
def consumer() -> Consumer:
    app = faust.App("test", broker="kafka://127.0.0.1:1", autodiscover=False)
    transport = Transport(app.conf.broker_consumer, app)
    return transport.create_consumer(
        _nothing, on_partitions_revoked=_nothing, on_partitions_assigned=_nothing
    )


def test_records_one_after_another_and_records_that_come_again_are_fine(consumer: Consumer):
    for offset in (7, 8, 9, 8, 9, 10):
        consumer.delivered(EVENTS, offset)


def test_a_record_that_is_missing_is_noticed(consumer: Consumer):
    consumer.delivered(EVENTS, 7)
    consumer.delivered(TP("events", 1), 9)
    with pytest.raises(SkippedError, match=r"events\[0\]: offset 9 came where 8 was next"):
        consumer.delivered(EVENTS, 9)
