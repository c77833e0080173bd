"""The same minutes in quixstreams: regrouped by episode, tumbling windows in RocksDB."""

from __future__ import annotations

import sys
from typing import Any

from outcome import BOOTSTRAP, MINUTE_MS, TOPIC, Outcome, decoder
from quixstreams import Application
from quixstreams.models import Deserializer


class Events(Deserializer):
    """Decodes events as the other sides do."""

    def __init__(self) -> None:
        super().__init__()
        self._decode = decoder()

    def __call__(self, value: bytes, ctx: Any) -> dict[str, Any]:
        """The event in a message."""
        return self._decode(value)


app = Application(
    broker_address=BOOTSTRAP,
    consumer_group="live-tables-quixstreams",
    auto_offset_reset="earliest",
    state_dir=sys.argv[5],
    loglevel="ERROR",
)
events = app.topic(
    TOPIC,
    value_deserializer=Events(),
    key_deserializer="bytes",
    timestamp_extractor=lambda value, headers, timestamp, kind: value["occurred_at"],
)
outcome, counts = Outcome(), {}


def note(window: dict[str, Any], episode: Any, *_: Any) -> None:
    """Take over the count of a window."""
    counts[episode, window["start"]] = window["value"]
    if outcome.note():
        outcome.report_and_end(sum(counts.values()))


minutes = (
    app.dataframe(events)
    .update(lambda _: outcome.start())
    .group_by("episode_id")
    .tumbling_window(MINUTE_MS, grace_ms=15 * MINUTE_MS)
    .count()
    .current()
)
minutes.update(note, metadata=True)
app.run()
