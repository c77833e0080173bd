"""Finds episodes whose transcripts are nearly the same, into `episode-duplicates`.

The topic of analyses has one partition, so that one worker sees every fingerprint and the order
of the log decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from streams.kafka.message import Message
from streams.runtime.context import Context, decode_all, keyed_records
from streams.state.recent import RecentValues
from streams.transcripts.core.analysis.duplicates import Arrival, Entry, Fingerprints, take

ANALYSES_AT_ONCE = 256
TIMES_REMEMBERED = 200_000
"""Episodes whose time of publication is remembered until their fingerprints come, the newest ones:
about 40 MB. That of an older one is taken for unknown."""


def register(context: Context) -> None:
    """Compare each new fingerprint with all others; say what has changed for whom."""
    table = context.table("fingerprints")
    published: RecentValues[str, int] = RecentValues(TIMES_REMEMBERED)
    known: dict[int, Fingerprints] = {}
    context.on_rebalance(known.clear)

    def handle_episode_metadata(messages: Sequence[Message]) -> None:
        for episode_id, episode in keyed_records(context, messages):
            at: datetime | None = episode and episode["published_at"]
            if at is not None:
                published.put(episode_id, int(at.timestamp() * 1000))
            else:
                published.drop(episode_id)

    context.broadcast("episode-metadata", handle_episode_metadata)

    def load(partition: int) -> Fingerprints:
        if partition not in known:
            entries = ((key.decode(), Entry.decode(v)) for key, v in table.items(partition))
            known[partition] = Fingerprints(entries)
        return known[partition]

    @context.agent("episode-analysis", max_batch=ANALYSES_AT_ONCE)
    async def handle_episode_analysis(messages: list[Message]) -> None:
        partition = messages[0].partition
        fingerprints = load(partition)
        decoded = await decode_all(context, [m for m in messages if m.value is not None])
        found = {message.offset: record["fingerprint"] for message, record in decoded}
        arrivals = []
        for message in messages:
            if message.value is not None and message.offset not in found:
                continue  # it is a dead letter now
            episode_id = (message.key or b"").decode(errors="replace")
            at, fingerprint = published.get(episode_id), found.get(message.offset, b"")
            arrivals.append(Arrival(episode_id, message.offset, at, fingerprint))
        # Comparing a batch with everything takes seconds; the event loop goes on meanwhile.
        changed, reports = await asyncio.to_thread(take, fingerprints, arrivals)
        for episode_id, report in reports.items():
            await context.send("episode-duplicates", report, key=episode_id)
        # The state must not say that a fingerprint is known before its duplicates are.
        await context.flush()
        for episode_id, entry_now in changed.items():
            if entry_now is None:
                table.delete(partition, episode_id.encode())
            else:
                table.put(partition, episode_id.encode(), entry_now.encode())
