"""Makes one episode of what several sources say of it, and withdraws it when all of them have.

A record is sent when what is published changes. After a crash candidates come again: what they led
to may not have been sent, so it is sent once more as it is now.
"""

from __future__ import annotations

from typing import Any

from schemas.codec import BadRecordError, RecordCodec
from streams.ingest.core import identity
from streams.ingest.core.identity import Copies, EpisodeRecord
from streams.kafka.message import Message
from streams.runtime.context import Context, decode_all
from streams.state.protocols import StateTable

CANDIDATES_AT_ONCE = 64

Group = list[tuple[int, dict[str, Any], EpisodeRecord | None]]
"""Offset, candidate and its decoded record."""


def register(context: Context) -> None:
    """Fold candidates as they come into the episodes they belong to."""
    codec = RecordCodec("episode-metadata", "episode", context.registry)
    table = context.table("copies")

    @context.agent("episode-candidates", max_batch=CANDIDATES_AT_ONCE)
    async def handle_episode_candidates(messages: list[Message]) -> None:
        for (partition, key), group in (await _by_identity(context, codec, messages)).items():
            before = _stored(table, codec, partition, key)
            after, again = before, False
            for offset, candidate, record in group:
                if after is not None and offset <= after.offset:
                    again = True
                    continue
                copy = (candidate["episode_id"], candidate["source"], record)
                after = identity.fold(after, offset, *copy)
            if after is None:
                continue
            if after is not before:
                table.put(partition, key.encode(), identity.encode(after, codec.encode))
            record = identity.published(after)
            if again or record != identity.published(before):
                await context.send("episode-metadata", record, key=after.episode_id)


async def _by_identity(
    context: Context, codec: RecordCodec, messages: list[Message]
) -> dict[tuple[int, str], Group]:
    """Candidates by partition and identity, in the order of the log."""
    groups: dict[tuple[int, str], Group] = {}
    for message, candidate in await decode_all(context, messages):
        try:
            framed = candidate["record"]
            record = None if framed is None else codec.decode(framed)
        except BadRecordError as error:
            await context.dead_letter(message, error)
            continue
        group = groups.setdefault((message.partition, candidate["identity"]), [])
        group.append((message.offset, candidate, record))
    return groups


def _stored(table: StateTable, codec: RecordCodec, partition: int, key: str) -> Copies | None:
    value = table.get(partition, key.encode())
    return None if value is None else identity.decode(value, codec.decode)
