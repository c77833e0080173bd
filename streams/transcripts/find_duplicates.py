"""Finds episodes whose transcripts are nearly the same, into `episode-duplicates`.

Comes in: fingerprints, on `episode-analysis`, and when each episode was published, from
`episode-metadata`. Goes out: for each episode whose nearest ones have changed, which these are.
An analysis that does not decode is a dead letter; an episode of unknown time still counts.

The topic of analyses has one partition, so that one worker sees every fingerprint and the order
of the log decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from streams.kafka.message import Message
from streams.runtime.context import Context, decode_all, keyed_records
from streams.runtime.keyed import set_entry
from streams.state.recent import RecentValues
from streams.transcripts.core.analysis.duplicates import Arrival, Entry, Fingerprints, take
from topology.tables import FINGERPRINTS
from topology.topics.analysis import EPISODE_ANALYSIS, EPISODE_DUPLICATES
from topology.topics.ingest import EPISODE_METADATA

ANALYSES_AT_ONCE = 256
TIMES_REMEMBERED = 200_000
"""Episodes whose time of publication is remembered until their fingerprints come, the newest ones:
about 40 MB. That of an older one is taken for unknown."""


def register(context: Context) -> None:
    """Compare each new fingerprint with all others; say what has changed for whom."""
    stage = FindDuplicates(context)
    context.broadcast(EPISODE_METADATA, stage.handle_episode_metadata)
    context.agent(EPISODE_ANALYSIS, max_batch=ANALYSES_AT_ONCE)(stage.handle_episode_analysis)


class FindDuplicates:
    """The stage: its handlers, and the fingerprints of the partitions that it owns."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._table = context.table(FINGERPRINTS)
        self._published_ms: RecentValues[str, int] = RecentValues(TIMES_REMEMBERED)
        self._known: dict[int, Fingerprints] = {}
        context.on_rebalance(self._known.clear)

    def handle_episode_metadata(self, messages: Sequence[Message]) -> None:
        """Remember when each episode was published."""
        for episode_id, episode in keyed_records(self._context, messages):
            at: datetime | None = episode and episode["published_at"]
            if at is not None:
                self._published_ms.put(episode_id, int(at.timestamp() * 1000))
            else:
                self._published_ms.drop(episode_id)

    async def handle_episode_analysis(self, messages: list[Message]) -> None:
        """Compare the fingerprints of a batch with all others, and tell what has changed."""
        partition = messages[0].partition
        fingerprints = self._fingerprints(partition)
        arrivals = await self._arrivals(messages)
        # Comparing a batch with everything takes seconds; the event loop goes on meanwhile.
        changed, reports = await asyncio.to_thread(take, fingerprints, arrivals)
        for episode_id, report in reports.items():
            await self._context.send(EPISODE_DUPLICATES, report, key=episode_id)
        # The state must not say that a fingerprint is known before its duplicates are.
        await self._context.flush()
        for episode_id, entry in changed.items():
            value = None if entry is None else entry.encode()
            set_entry(self._table, (partition, episode_id.encode()), value)

    async def _arrivals(self, messages: Sequence[Message]) -> list[Arrival]:
        """What is new in a batch; the fingerprint of an analysis that is withdrawn is empty."""
        decoded = await decode_all(self._context, [m for m in messages if m.value is not None])
        found = {message.offset: record["fingerprint"] for message, record in decoded}
        arrivals = []
        for message in messages:
            if message.value is not None and message.offset not in found:
                continue  # it is a dead letter now
            episode_id = message.key_text
            at, fingerprint = self._published_ms.get(episode_id), found.get(message.offset, b"")
            arrivals.append(Arrival(episode_id, message.offset, at, fingerprint))
        return arrivals

    def _fingerprints(self, partition: int) -> Fingerprints:
        """All fingerprints of a partition, read from the table the first time."""
        if partition not in self._known:
            entries = ((key.decode(), Entry.decode(v)) for key, v in self._table.items(partition))
            self._known[partition] = Fingerprints(entries)
        return self._known[partition]
