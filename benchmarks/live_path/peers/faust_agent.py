"""A Faust agent as its tutorial has it: decode an event, count it in a table with a changelog."""

from __future__ import annotations

import faust
from outcome import BOOTSTRAP, MINUTE_MS, TOPIC, Outcome, decoder

app = faust.App(
    "live-tables-plain-faust",
    broker=f"kafka://{BOOTSTRAP}",
    store="memory://",
    web_enabled=False,
    topic_disable_leader=True,
    worker_redirect_stdouts=False,
    consumer_auto_offset_reset="earliest",
)
events = app.topic(TOPIC, value_type=bytes, value_serializer="raw", key_serializer="raw")
counts = app.Table("counts", default=int, partitions=12)


@app.agent(events)
async def count(stream: faust.Stream[bytes]) -> None:
    """Count each event in its episode's minute."""
    decode, outcome = decoder(), Outcome()
    async for value in stream:
        event = decode(value)
        counts[f"{event['episode_id']}|{event['occurred_at'] // MINUTE_MS}"] += 1
        if outcome.note():
            outcome.report_and_end(sum(counts.values()))


faust.Worker(app, loglevel="ERROR").execute_from_commandline()
