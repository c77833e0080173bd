"""Batches of a compacted topic: only the newest record of a key counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streams.context import Context, Message, decode_all

Place = tuple[int, bytes]
"""Partition and key."""


async def newest_records(
    context: Context, messages: Sequence[Message], key: str
) -> dict[Place, dict[str, Any] | None]:
    """The newest record of each key, whose name in the record is ``key``; None if it is withdrawn.

    What does not decode goes to the dead-letter topic.
    """
    decoded = await decode_all(context, [m for m in messages if m.value is not None])
    records = {(message.partition, message.offset): record for message, record in decoded}
    newest: dict[Place, dict[str, Any] | None] = {}
    for message in messages:
        record = records.get((message.partition, message.offset))
        if record is not None:
            newest[message.partition, record[key].encode()] = record
        elif message.value is None and message.key:
            newest[message.partition, message.key] = None
    return newest
