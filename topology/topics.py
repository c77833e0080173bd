"""Every topic, once. Nothing else in the project spells a topic's name as a constant."""

from __future__ import annotations

from schemas.units import DAY_MS, HOUR_MS
from topology.model import Topic

MEGABYTE = 1_048_576


def declare_topics(event_partitions: int) -> tuple[Topic, ...]:
    """The topics of a deployment whose event path has ``event_partitions`` partitions."""
    return (
        Topic(
            "feeds",
            "Feeds to follow, each as a subscription: a public way in; a tombstone ends one.",
            key="url",
            schema="feed_subscription",
            partitions=2,
            cleanup="compact",
        ),
        Topic(
            "episode-ids",
            "Episodes that a source found, or found changed or withdrawn.",
            key="episode_id",
            schema="episode_ref",
            partitions=2,
        ),
        Topic(
            "episode-candidates",
            "What each source says of an episode, or that it has withdrawn it.",
            key="identity",
            schema="episode_candidate",
            partitions=2,
        ),
        Topic(
            "episode-metadata",
            "The full record of each episode; the newest one counts, and none is a withdrawal.",
            key="episode_id",
            schema="episode",
            partitions=2,
            cleanup="compact",
        ),
        Topic(
            "episode-transcripts",
            "The transcript of each episode, or why there is none.",
            key="episode_id",
            schema="transcript",
            partitions=2,
            cleanup="compact",
            max_message_bytes=8 * MEGABYTE,
        ),
        Topic(
            "heard-transcripts",
            "What was heard in the audio of an episode, or why nothing was. The header "
            "`episode_offset` says for which record of `episode-metadata`; passed on to "
            "`episode-transcripts` where that is still what counts.",
            key="episode_id",
            schema="transcript",
            partitions=2,
            retention_ms=7 * DAY_MS,
            max_message_bytes=8 * MEGABYTE,
        ),
        Topic(
            "source-hosts",
            "How the hosts do that episodes and transcripts come from, as each worker sees them: "
            "those in trouble or used lately, the newest record of a key counts. A worker that "
            "has said nothing for a minute is gone.",
            key="worker|host",
            schema="source_host",
            partitions=1,
            retention_ms=HOUR_MS,
            segment_bytes=MEGABYTE,
        ),
        Topic(
            "episode-analysis",
            "What is worked out from each transcript: keyphrases, pace, speakers, readability, "
            "probable advertisements, a fingerprint.",
            key="episode_id",
            schema="episode_analysis",
            partitions=1,
            cleanup="compact",
        ),
        Topic(
            "episode-duplicates",
            "Which episodes are nearly the same as each episode: nothing of one that always stood "
            "alone, an empty list once it stands alone again.",
            key="episode_id",
            schema="episode_duplicates",
            partitions=1,
            cleanup="compact",
        ),
        Topic(
            "user-events",
            "What listeners did, one event a message: the public way in.",
            key="user_id",
            schema="user_event",
            partitions=event_partitions,
            append_time=True,
        ),
        Topic(
            "user-event-batches",
            "Valid events without duplicates, thousands to a message, each row with the partition "
            "and offset it came from. Headers `first_offset` and `last_offset` give the range of "
            "source offsets a message accounts for, also for the rows that were refused.",
            key="none; partition = the source partition",
            schema="user_event",
            format="arrow",
            partitions=event_partitions,
            max_message_bytes=16 * MEGABYTE,
        ),
        Topic(
            "engagement-windows",
            "Counts per episode, minute and source partition, always the whole value so far: the "
            "row with the highest offset replaces the others, and source partitions add up. Header "
            "`closed` (JSON) gives, by source partition, the last minute since 1970 of which all "
            "has been said.",
            key="none; partition = crc32(episode_id) modulo the partitions",
            schema="engagement_window",
            format="arrow",
            partitions=event_partitions,
            retention_ms=7 * DAY_MS,
            max_message_bytes=16 * MEGABYTE,
        ),
        Topic(
            "engagement-history",
            "Counts per episode and minute once nothing can change them any more: whole minutes "
            "in ascending order. A minute at or below one that came before is a repeat.",
            key="none; partition = the source partition",
            schema="engagement_window",
            format="arrow",
            partitions=event_partitions,
            max_message_bytes=16 * MEGABYTE,
        ),
        Topic(
            "rolling-windows",
            "The last 1, 5, 15, 60 minutes and 24 hours of every episode, show and category; "
            "source partitions add up. Each message replaces the one before of its partition.",
            key="none; partition = the source partition",
            schema="rolling_window",
            format="arrow",
            partitions=event_partitions,
            retention_ms=HOUR_MS,
            max_message_bytes=16 * MEGABYTE,
        ),
        Topic(
            "episode-days",
            "Downloads, streams, listeners and time heard per episode and UTC day, always the "
            "whole value so far; source partitions add up.",
            key="none; partition = the source partition",
            schema="episode_day",
            format="arrow",
            partitions=event_partitions,
            retention_ms=7 * DAY_MS,
            max_message_bytes=16 * MEGABYTE,
        ),
        Topic(
            "episode-retention",
            "How many listeners heard each minute of an episode on a UTC day, always the whole "
            "value so far; source partitions add up.",
            key="none; partition = the source partition",
            schema="episode_retention",
            format="arrow",
            partitions=event_partitions,
            retention_ms=7 * DAY_MS,
            max_message_bytes=16 * MEGABYTE,
        ),
        Topic(
            "audience-days",
            "Distinct listeners of every episode, show and category on a finished UTC day, with a "
            "sketch that unites days: one message or several that follow each other per source "
            "partition and day, days in ascending order.",
            key="none; partition = the source partition",
            schema="audience_day",
            format="arrow",
            partitions=event_partitions,
            max_message_bytes=16 * MEGABYTE,
        ),
        Topic(
            "late-events",
            "Events that came too late for the live tables; history has them all the same. An "
            "event may be here twice: its partition and offset tell.",
            key="none; partition = the source partition",
            schema="user_event",
            format="arrow",
            partitions=event_partitions,
            max_message_bytes=16 * MEGABYTE,
        ),
        Topic(
            "table-progress",
            "How far each live table has got with each source partition, and how many events "
            "came too late for it.",
            key="stage|source_partition",
            schema="table_progress",
            partitions=1,
            cleanup="compact",
        ),
        Topic(
            "listening-sessions",
            "What each listener did without a pause of 30 minutes, once it is over. A row whose "
            "offset is not above that of an earlier message is a repeat.",
            key="none; partition = the source partition",
            schema="listening_session",
            format="arrow",
            partitions=event_partitions,
            max_message_bytes=16 * MEGABYTE,
        ),
        Topic(
            "listening-streaks",
            "On how many days in a row each listener has listened; the newest row counts.",
            key="none; partition = the source partition",
            schema="listening_streak",
            format="arrow",
            partitions=event_partitions,
            max_message_bytes=16 * MEGABYTE,
        ),
        Topic(
            "user-episode-daily",
            "What each listener added to an episode on a day, one message an input batch: amounts "
            "add up over rows; a row whose last_offset was applied already is a repeat.",
            key="none; partition = the source partition",
            schema="user_episode_daily",
            format="arrow",
            partitions=event_partitions,
            max_message_bytes=16 * MEGABYTE,
        ),
        Topic(
            "trending-episodes",
            "The ranking of a scope (`all`, `category:…`, `language:…`) among one partition's "
            "episodes; a reader merges the partitions.",
            key="scope|partition",
            schema="trending",
            partitions=1,
            cleanup="compact",
        ),
        Topic(
            "episode-anomalies",
            "Episodes that are suddenly heard much more, or much less, than before.",
            key="episode_id|at",
            schema="episode_anomaly",
            partitions=1,
        ),
        Topic(
            "episode-embeddings",
            "One vector for each transcript.",
            key="episode_id",
            schema="episode_embedding",
            partitions=2,
            cleanup="compact",
        ),
        Topic(
            "episode-neighbours",
            "The episodes nearest to each episode, by cosine of their embeddings.",
            key="episode_id",
            schema="episode_neighbours",
            partitions=2,
            cleanup="compact",
        ),
        Topic(
            "topics",
            "Groups of episodes about the same things, with a label of their telling phrases.",
            key="topic_id",
            schema="topic",
            partitions=1,
            cleanup="compact",
        ),
        Topic(
            "episode-topics",
            "The topic of each episode.",
            key="episode_id",
            schema="episode_topic",
            partitions=2,
            cleanup="compact",
        ),
        Topic(
            "item-factors",
            "Item vectors of every ALS generation; the newest one counts.",
            key="episode_id",
            schema="item_factors",
            partitions=2,
            cleanup="compact",
        ),
        Topic(
            "model-generations",
            "One record a finished training, written after all its item factors.",
            key="generation",
            schema="model_generation",
            partitions=1,
        ),
        Topic(
            "model-metrics",
            "Offline and prequential figures of every model.",
            key="model|generation|metric",
            schema="model_metric",
            partitions=1,
        ),
        Topic(
            "blend-weights",
            "How much each signal earns plays, learned per source partition; a reader averages.",
            key="source partition",
            schema="blend_weights",
            partitions=1,
            cleanup="compact",
        ),
        Topic(
            "recommendations",
            "The current list of each listener, best first, with reasons.",
            key="user_id; partition = the source partition of the listener's events",
            schema="recommendation",
            partitions=event_partitions,
            cleanup="compact",
        ),
        Topic(
            "table-generations",
            "Which generation of the live tables is the current one.",
            key="table",
            schema="table_generation",
            partitions=1,
            cleanup="compact",
        ),
        Topic(
            "redrive-progress",
            "Which dead letters `podstream dlq redrive` has sent back; the newest record "
            "of a topic counts.",
            key="topic",
            schema="redrive_progress",
            partitions=1,
            cleanup="compact",
            max_message_bytes=8 * MEGABYTE,
        ),
        Topic(
            "_schemas",
            "Schemas and their ids, in the record format of Confluent's registry.",
            key="registry record key (JSON)",
            format="raw",
            partitions=1,
            cleanup="compact",
        ),
    )
