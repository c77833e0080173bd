"""Works out what a transcript tells of its episode, into `episode-analysis`."""

from __future__ import annotations

import asyncio
from typing import Any

from streams.context import Context, Message, decode_all
from streams.core.analysis.record import analyse

TRANSCRIPTS_AT_ONCE = 32


def register(context: Context) -> None:
    """Analyse each transcript; an episode without one has no analysis."""

    @context.agent("episode-transcripts", max_batch=TRANSCRIPTS_AT_ONCE)
    async def analyse_transcripts(messages: list[Message]) -> None:
        withdrawn = [(message, None) for message in messages if message.value is None]
        decoded = await decode_all(context, [m for m in messages if m.value is not None])
        newest: dict[bytes | None, dict[str, Any] | None] = {}
        for message, transcript in sorted(withdrawn + decoded, key=_place):
            newest[message.key] = transcript
        for key, transcript in newest.items():
            # In a thread: the event loop has fetches to attend to.
            found = await asyncio.to_thread(analyse, transcript) if transcript else None
            await context.send("episode-analysis", found, key=key)


def _place(pair: tuple[Message, Any]) -> tuple[int, int]:
    return pair[0].partition, pair[0].offset
