"""Batches of a compacted topic: only the newest record of a key counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streams.kafka.message import Message
from streams.runtime.context import Context, decode_all

EntryKey = tuple[int, bytes]
"""Partition and key."""


async def newest_records(
    context: Context, messages: Sequence[Message], key: str
) -> dict[EntryKey, dict[str, Any] | None]:
    """The newest record of each key, whose name in the record is ``key``; None if it is withdrawn.

    What does not decode goes to the dead-letter topic.
    """
    return {place: record for place, _, record in await in_order(context, messages, key)}


async def in_order(
    context: Context, messages: Sequence[Message], key: str
) -> list[tuple[EntryKey, int, dict[str, Any] | None]]:
    """Entry key, offset and record of each message, in their order; the record as in
    `newest_records`."""
    decoded = await decode_all(context, [m for m in messages if m.value is not None])
    records = {(message.partition, message.offset): record for message, record in decoded}
    found: list[tuple[EntryKey, int, dict[str, Any] | None]] = []
    for message in messages:
        record = records.get((message.partition, message.offset))
        if record is not None:
            found.append(((message.partition, record[key].encode()), message.offset, record))
        elif message.value is None and message.key:
            found.append(((message.partition, message.key), message.offset, None))
    return found
