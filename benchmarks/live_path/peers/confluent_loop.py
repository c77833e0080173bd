"""A confluent-kafka loop without state: what arrives is looked at, or decoded, and let go."""

from __future__ import annotations

import sys

from confluent_kafka import Consumer
from outcome import BOOTSTRAP, TOPIC, Outcome, decoder

consumer = Consumer(
    {
        "bootstrap.servers": BOOTSTRAP,
        "group.id": f"live-tables-loop-{sys.argv[5]}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "fetch.queue.backoff.ms": 5,
    }
)
consumer.subscribe([TOPIC])
decode, outcome, over = decoder(), Outcome(), False
while not consumer.consume(1, timeout=0.25):
    pass
outcome.note()
while not over:
    records = consumer.consume(20_000, timeout=0.05)
    values = [record.value() for record in records if record.error() is None]
    if sys.argv[5] == "decode":
        for value in values:
            decode(value)
    if values:
        over = outcome.note(len(values))
outcome.report_and_end(None)
