"""Topics of which episodes are about the same things."""

from __future__ import annotations

from topology.model import AvroTopic, Topic

EPISODE_EMBEDDINGS = AvroTopic(
    "episode-embeddings",
    "One vector for each transcript.",
    key="episode_id",
    schema="episode_embedding",
    partitions=2,
    cleanup="compact",
)

EPISODE_NEIGHBOURS = AvroTopic(
    "episode-neighbours",
    "The episodes nearest to each episode, by cosine of their embeddings.",
    key="episode_id",
    schema="episode_neighbours",
    partitions=2,
    cleanup="compact",
)

SUBJECTS = AvroTopic(
    "topics",
    "Groups of episodes about the same things, with a label of their telling phrases.",
    key="topic_id",
    schema="topic",
    partitions=1,
    cleanup="compact",
)

EPISODE_SUBJECTS = AvroTopic(
    "episode-topics",
    "The topic of each episode.",
    key="episode_id",
    schema="episode_topic",
    partitions=2,
    cleanup="compact",
)

TOPICS: tuple[Topic, ...] = (
    EPISODE_EMBEDDINGS,
    EPISODE_NEIGHBOURS,
    SUBJECTS,
    EPISODE_SUBJECTS,
)
