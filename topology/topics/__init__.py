"""Every topic, once, a file for each step of the river; nothing else spells a topic's name.

A topic is a constant that stages, jobs and tests import, typed by what a value of it is::

    from topology.topics.events import USER_EVENT_BATCHES
    from topology.topics.engagement import USER_EPISODE_DAILY

    @context.agent(USER_EVENT_BATCHES)
    async def handle_user_event_batches(messages: list[Message]) -> None:
        ...
        await context.send(USER_EPISODE_DAILY, rows, partition=partition)
"""

from __future__ import annotations

from topology.model import Topic
from topology.topics import (
    analysis,
    engagement,
    events,
    hosts,
    ingest,
    operations,
    recommendation,
    similarity,
    transcripts,
)

TOPICS: tuple[Topic, ...] = (
    *ingest.TOPICS,
    *transcripts.TOPICS,
    *hosts.TOPICS,
    *analysis.TOPICS,
    *events.TOPICS,
    *engagement.TOPICS,
    *similarity.TOPICS,
    *recommendation.TOPICS,
    *operations.TOPICS,
)
"""All that are declared, in the order of the river; dead letters and logs of state derive."""
