"""Finds episodes that are suddenly heard much more, or much less, than before.

In: `engagement-windows`, with its watermarks. Out: `episode-anomalies`, keyed by episode and time.
Each partition looks at its own episodes. What an anomaly is, and when, is told in
`streams.engagement.core.anomalies`. After a restart the same anomaly may be told again, under the
same key.

Bad input: a message without rows, or with another header than watermarks, is dead-lettered.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from schemas.codec import BadRecordError
from streams.engagement.core.anomaly_state import Anomaly, AnomalyState
from streams.engagement.core.watermark import HEADER, LOGGED, QUIET, read_watermarks
from streams.engagement.core.window_rows import WindowMessage
from streams.kafka.message import Message
from streams.runtime.context import Context, decode_partitions
from topology.tables import ANOMALY_MODELS
from topology.topics.engagement import ENGAGEMENT_WINDOWS, EPISODE_ANOMALIES

LINGER_S = 0.5
MAX_BATCH = 128
"""Messages of thousands of rows: what is folded without a pause."""


def register(context: Context) -> None:
    """Declare the stage's handlers."""
    AnomalyDetector(context)


class AnomalyDetector:
    """The stage's handlers on one context."""

    def __init__(self, context: Context):
        self._context = context
        partitions = context.settings.event_partitions
        self._states = context.states(ANOMALY_MODELS, lambda _: AnomalyState(partitions))
        context.agent(ENGAGEMENT_WINDOWS, max_batch=MAX_BATCH, linger_s=LINGER_S)(
            self._handle_engagement_windows
        )

    async def _handle_engagement_windows(self, messages: list[Message]) -> None:
        for partition, batch in (await decode_partitions(self._context, messages)).items():
            windows = await self._with_watermarks(batch)
            # Not all partitions in one go: others want to run in between.
            await self._context.clock.sleep(0)
            state = await self._states.get(partition)
            before = state.applied
            found = state.fold(windows)
            for anomaly in found:
                record = _record_of(anomaly)
                key = f"{anomaly.episode_id}|{anomaly.at:%Y-%m-%dT%H:%MZ}"
                await self._context.send(EPISODE_ANOMALIES, record, key=key)
            if found:
                # State that is ahead of the output would lose what was not sent before a kill.
                await self._context.flush()
            if state.applied > before:
                await self._states.save(partition)

    async def _with_watermarks(
        self, batch: list[tuple[Message, pl.DataFrame]]
    ) -> list[WindowMessage]:
        found: list[WindowMessage] = []
        for message, rows in batch:
            try:
                told = [read_watermarks(message.header(n), n) for n in (HEADER, LOGGED, QUIET)]
            except BadRecordError as error:
                await self._context.dead_letter(message, error)
                continue
            found.append(WindowMessage(message.offset, message.timestamp_ms, rows, *told))
        return found


def _record_of(anomaly: Anomaly) -> dict[str, Any]:
    """The record of `episode_anomaly`."""
    return {
        "episode_id": anomaly.episode_id,
        "at": anomaly.at,
        "direction": anomaly.surprise.direction,
        "plays": anomaly.plays,
        "expected": anomaly.surprise.expected,
        "score": anomaly.surprise.score,
    }
