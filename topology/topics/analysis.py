"""Topics of what is worked out from transcripts."""

from __future__ import annotations

from topology.model import AvroTopic, Topic

EPISODE_ANALYSIS = AvroTopic(
    "episode-analysis",
    "What is worked out from each transcript: keyphrases, pace, speakers, readability, "
    "probable advertisements, a fingerprint.",
    key="episode_id",
    schema="episode_analysis",
    partitions=1,
    cleanup="compact",
)

EPISODE_DUPLICATES = AvroTopic(
    "episode-duplicates",
    "Which episodes are nearly the same as each episode: nothing of one that always stood "
    "alone, an empty list once it stands alone again.",
    key="episode_id",
    schema="episode_duplicates",
    partitions=1,
    cleanup="compact",
)

TOPICS: tuple[Topic, ...] = (
    EPISODE_ANALYSIS,
    EPISODE_DUPLICATES,
)
