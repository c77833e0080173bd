"""Topics and tables with keys: the newest record of a key counts, whatever came before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from streams.kafka.message import Message
from streams.runtime.context import Context, decode_all
from streams.state.keyed_table import StateTable

EntryKey = tuple[int, bytes]
"""The partition and the key of a record, and of what a table keeps about it."""


class KeyedRecord(NamedTuple):
    """A message by its key; ``record`` is None if it withdraws what came before."""

    key: EntryKey
    offset: int
    record: dict[str, Any] | None


async def newest_records(
    context: Context, messages: Sequence[Message], field: str
) -> dict[EntryKey, KeyedRecord]:
    """The newest of `records_in_order` of each key."""
    return {found.key: found for found in await records_in_order(context, messages, field)}


async def records_in_order(
    context: Context, messages: Sequence[Message], field: str
) -> list[KeyedRecord]:
    """The messages by their keys, which stand in a ``field`` of their records, in their order.

    What does not decode goes to the dead-letter topic.
    """
    decoded = await decode_all(context, [m for m in messages if m.value is not None])
    records = {(message.partition, message.offset): record for message, record in decoded}
    found: list[KeyedRecord] = []
    for message in messages:
        record = records.get((message.partition, message.offset))
        if record is not None:
            key = message.partition, record[field].encode()
            found.append(KeyedRecord(key, message.offset, record))
        elif message.value is None and message.key:
            found.append(KeyedRecord((message.partition, message.key), message.offset, None))
    return found


def set_entry(table: StateTable, key: EntryKey, value: bytes | None) -> None:
    """Make a table hold a value, or none, and write only where it does not: its log is spared."""
    before = table.get(*key)
    if value is None and before is not None:
        table.delete(*key)
    elif value is not None and value != before:
        table.put(*key, value)
