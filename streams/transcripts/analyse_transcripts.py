"""Works out what a transcript tells of its episode: keyphrases, pace, speakers and the like.

Comes in: transcripts, on `episode-transcripts`. Goes out: on `episode-analysis`, one record for
each; the withdrawal of a transcript withdraws it. What does not decode is a dead letter.
"""

from __future__ import annotations

import asyncio

from streams.kafka.message import Message
from streams.runtime.context import Context
from streams.runtime.keyed import newest_records
from streams.transcripts.core.analysis.record import analyse
from topology.topics.analysis import EPISODE_ANALYSIS
from topology.topics.transcripts import EPISODE_TRANSCRIPTS

TRANSCRIPTS_AT_ONCE = 32


def register(context: Context) -> None:
    """Analyse each transcript; an episode without one has no analysis."""
    stage = AnalyseTranscripts(context)
    context.agent(EPISODE_TRANSCRIPTS, max_batch=TRANSCRIPTS_AT_ONCE)(
        stage.handle_episode_transcripts
    )


class AnalyseTranscripts:
    """The stage: its handler, which keeps nothing."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def handle_episode_transcripts(self, messages: list[Message]) -> None:
        """Analyse the newest transcript of each episode of a batch."""
        newest = await newest_records(self._context, messages, "episode_id")
        for (_, episode_id), _, transcript in newest.values():
            # In a thread: the event loop has fetches to attend to.
            found = await asyncio.to_thread(analyse, transcript) if transcript else None
            await self._context.send(EPISODE_ANALYSIS, found, key=episode_id)
