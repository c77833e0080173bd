"""Works out who heard how much of what, per day.

Every input batch becomes one output message with the same source offsets, never several batches
one message: after a restart the very same messages go out again, and readers skip them by their
offsets.
"""

from __future__ import annotations

from streams.context import Context, Message, decode_all
from streams.core.listening import added_by, progress_from_bytes, progress_to_bytes


def register(context: Context) -> None:
    (source,), (target,) = context.stage.consumes, context.stage.produces
    progress = context.table("listening_progress")

    @context.agent(source)
    async def add_up(messages: list[Message]) -> None:
        applied: dict[int, int] = {}
        for message, events in await decode_all(context, messages):
            partition = message.partition
            before = applied.get(partition, progress_from_bytes(progress.get(partition)))
            if (rows := added_by(events, before)) is not None:
                await context.send(target, rows, partition=partition)
                applied[partition] = int(rows["last_offset"][0])
        if applied:
            # State that is ahead of the output would lose what was not sent before a kill.
            await context.delivered()
        for partition, offset in applied.items():
            progress.put(partition, b"", progress_to_bytes(offset))
