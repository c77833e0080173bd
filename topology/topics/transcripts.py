"""Topics of what is said in episodes."""

from __future__ import annotations

from schemas.units import DAY_MS
from topology.model import MEGABYTE, AvroTopic, Topic

EPISODE_TRANSCRIPTS = AvroTopic(
    "episode-transcripts",
    "The transcript of each episode, or why there is none.",
    key="episode_id",
    schema="transcript",
    partitions=2,
    cleanup="compact",
    max_message_bytes=8 * MEGABYTE,
)

HEARD_TRANSCRIPTS = AvroTopic(
    "heard-transcripts",
    "What was heard in the audio of an episode, or why nothing was. The header "
    "`episode_offset` says for which record of `episode-metadata`; passed on to "
    "`episode-transcripts` where that is still what counts.",
    key="episode_id",
    schema="transcript",
    partitions=2,
    retention_ms=7 * DAY_MS,
    max_message_bytes=8 * MEGABYTE,
)

TOPICS: tuple[Topic, ...] = (
    EPISODE_TRANSCRIPTS,
    HEARD_TRANSCRIPTS,
)
