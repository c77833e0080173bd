"""Works out what a transcript tells of its episode, into `episode-analysis`."""

from __future__ import annotations

import asyncio

from streams.http.newest import newest_records
from streams.kafka.message import Message
from streams.runtime.context import Context
from streams.transcripts.core.analysis.record import analyse

TRANSCRIPTS_AT_ONCE = 32


def register(context: Context) -> None:
    """Analyse each transcript; an episode without one has no analysis."""

    @context.agent("episode-transcripts", max_batch=TRANSCRIPTS_AT_ONCE)
    async def handle_episode_transcripts(messages: list[Message]) -> None:
        newest = await newest_records(context, messages, "episode_id")
        for (_, key), transcript in newest.items():
            # In a thread: the event loop has fetches to attend to.
            found = await asyncio.to_thread(analyse, transcript) if transcript else None
            await context.send("episode-analysis", found, key=key)
