"""Topics of the way from a feed to an episode."""

from __future__ import annotations

from topology.model import AvroTopic, Topic

FEEDS = AvroTopic(
    "feeds",
    "Feeds to follow, each as a subscription: a public way in; a tombstone ends one.",
    key="url",
    schema="feed_subscription",
    partitions=2,
    cleanup="compact",
)

EPISODE_IDS = AvroTopic(
    "episode-ids",
    "Episodes that a source found, or found changed or withdrawn.",
    key="episode_id",
    schema="episode_ref",
    partitions=2,
)

EPISODE_CANDIDATES = AvroTopic(
    "episode-candidates",
    "What each source says of an episode, or that it has withdrawn it.",
    key="identity",
    schema="episode_candidate",
    partitions=2,
)

EPISODE_METADATA = AvroTopic(
    "episode-metadata",
    "The full record of each episode; the newest one counts, and none is a withdrawal.",
    key="episode_id",
    schema="episode",
    partitions=2,
    cleanup="compact",
)

TOPICS: tuple[Topic, ...] = (
    FEEDS,
    EPISODE_IDS,
    EPISODE_CANDIDATES,
    EPISODE_METADATA,
)
