"""Finds episodes that are suddenly heard much more, or much less, than before.

Each partition looks at its own episodes. What an anomaly is, and when, is told in
`streams.engagement.core.anomalies`. After a restart the same anomaly may be told again, under the
same key.
"""

from __future__ import annotations

import polars as pl

from schemas.codec import BadRecordError
from streams.engagement.core.anomaly_state import Anomaly, AnomalyState
from streams.engagement.core.watermark import HEADER, read_watermarks
from streams.engagement.core.window_rows import WindowMessage
from streams.kafka.message import Message
from streams.runtime.context import Context, decode_partitions

LINGER_S = 0.5
MAX_BATCH = 128
"""Messages of thousands of rows: what is folded without a pause."""


def register(context: Context) -> None:
    (source,), (target,) = context.stage.consumes, context.stage.produces
    partitions = context.settings.event_partitions
    states = context.states("anomaly_models", lambda _: AnomalyState(partitions))

    @context.agent(source, max_batch=MAX_BATCH, linger_s=LINGER_S)
    async def handle_engagement_windows(messages: list[Message]) -> None:
        for partition, batch in (await decode_partitions(context, messages)).items():
            group = await _logged(batch)
            # Not all partitions in one go: others want to run in between.
            await context.clock.sleep(0)
            state = await states.get(partition)
            before = state.applied
            found = state.fold(group)
            for anomaly in found:
                await _tell(anomaly)
            if found:
                # State that is ahead of the output would lose what was not sent before a kill.
                await context.flush()
            if state.applied > before:
                await states.save(partition)

    async def _logged(batch: list[tuple[Message, pl.DataFrame]]) -> list[WindowMessage]:
        found: list[WindowMessage] = []
        for message, rows in batch:
            try:
                watermarks = read_watermarks(message.header(HEADER))
            except BadRecordError as error:
                await context.dead_letter(message, error)
                continue
            found.append(WindowMessage(message.offset, message.timestamp_ms, rows, watermarks))
        return found

    async def _tell(anomaly: Anomaly) -> None:
        record = {
            "episode_id": anomaly.episode_id,
            "at": anomaly.at,
            "direction": anomaly.surprise.direction,
            "plays": anomaly.plays,
            "expected": anomaly.surprise.expected,
            "score": anomaly.surprise.score,
        }
        await context.send(target, record, key=f"{anomaly.episode_id}|{anomaly.at:%Y-%m-%dT%H:%MZ}")
