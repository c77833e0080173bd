"""Topics of the live tables: windows, days, sessions, rankings, anomalies."""

from __future__ import annotations

from schemas.units import DAY_MS, HOUR_MS
from topology.model import EVENT_PATH, MEGABYTE, ArrowTopic, AvroTopic, Topic

ENGAGEMENT_WINDOWS = ArrowTopic(
    "engagement-windows",
    "Counts per episode, minute and source partition, always the whole value so far: the "
    "row with the highest offset replaces the others, and source partitions add up. Header "
    "`closed` (JSON) gives, by source partition, the last minute since 1970 of which all "
    "has been said.",
    key="none; partition = crc32(episode_id) modulo the partitions",
    schema="engagement_window",
    partitions=EVENT_PATH,
    retention_ms=7 * DAY_MS,
    max_message_bytes=16 * MEGABYTE,
    divisible=True,
)

ENGAGEMENT_HISTORY = ArrowTopic(
    "engagement-history",
    "Counts per episode and minute once nothing can change them any more: whole minutes "
    "in ascending order. A minute at or below one that came before is a repeat.",
    key="none; partition = the source partition",
    schema="engagement_window",
    partitions=EVENT_PATH,
    purge_after_ms=7 * DAY_MS,
    max_message_bytes=16 * MEGABYTE,
    divisible=True,
    together="bucket",
)

ENGAGEMENT_TOTALS = ArrowTopic(
    "engagement-totals",
    "Counts per minute over all episodes, always the whole value so far: the row with the "
    "highest offset replaces the others, and source partitions add up.",
    key="none; partition = the source partition",
    schema="engagement_total",
    partitions=EVENT_PATH,
    retention_ms=7 * DAY_MS,
    max_message_bytes=16 * MEGABYTE,
    divisible=True,
)

ROLLING_WINDOWS = ArrowTopic(
    "rolling-windows",
    "The last 1, 5, 15, 60 minutes and 24 hours of every episode, show and category; "
    "source partitions add up. Each message replaces the one before of its partition.",
    key="none; partition = the source partition",
    schema="rolling_window",
    partitions=EVENT_PATH,
    retention_ms=HOUR_MS,
    max_message_bytes=16 * MEGABYTE,
)

EPISODE_DAYS = ArrowTopic(
    "episode-days",
    "Downloads, streams, listeners and time heard per episode and UTC day, always the "
    "whole value so far; source partitions add up.",
    key="none; partition = the source partition",
    schema="episode_day",
    partitions=EVENT_PATH,
    purge_after_ms=7 * DAY_MS,
    max_message_bytes=16 * MEGABYTE,
    divisible=True,
)

EPISODE_RETENTION = ArrowTopic(
    "episode-retention",
    "How many listeners heard each minute of an episode on a UTC day, always the whole "
    "value so far; source partitions add up.",
    key="none; partition = the source partition",
    schema="episode_retention",
    partitions=EVENT_PATH,
    purge_after_ms=7 * DAY_MS,
    max_message_bytes=16 * MEGABYTE,
    divisible=True,
)

AUDIENCE_DAYS = ArrowTopic(
    "audience-days",
    "Distinct listeners of every episode, show and category on a finished UTC day, with a "
    "sketch that unites days: one message or several that follow each other per source "
    "partition and day, days in ascending order.",
    key="none; partition = the source partition",
    schema="audience_day",
    partitions=EVENT_PATH,
    purge_after_ms=7 * DAY_MS,
    max_message_bytes=16 * MEGABYTE,
    divisible=True,
)

LATE_EVENTS = ArrowTopic(
    "late-events",
    "Events that came too late for the live tables; history has them all the same. An "
    "event may be here twice: its partition and offset tell.",
    key="none; partition = the source partition",
    schema="user_event",
    partitions=EVENT_PATH,
    retention_ms=30 * DAY_MS,
    max_message_bytes=16 * MEGABYTE,
    divisible=True,
)

TABLE_PROGRESS = AvroTopic(
    "table-progress",
    "How far each live table has got with each source partition, and how many events "
    "came too late for it.",
    key="stage|source_partition",
    schema="table_progress",
    partitions=1,
    cleanup="compact",
)

LISTENING_SESSIONS = ArrowTopic(
    "listening-sessions",
    "What each listener did without a pause of 30 minutes, once it is over. A row whose "
    "offset is not above that of an earlier message is a repeat.",
    key="none; partition = the source partition",
    schema="listening_session",
    partitions=EVENT_PATH,
    purge_after_ms=7 * DAY_MS,
    max_message_bytes=16 * MEGABYTE,
    divisible=True,
    together="offset",
)

LISTENING_STREAKS = ArrowTopic(
    "listening-streaks",
    "On how many days in a row each listener has listened; the newest row counts.",
    key="none; partition = the source partition",
    schema="listening_streak",
    partitions=EVENT_PATH,
    retention_ms=7 * DAY_MS,
    max_message_bytes=16 * MEGABYTE,
    divisible=True,
)

USER_EPISODE_DAILY = ArrowTopic(
    "user-episode-daily",
    "What each listener added to an episode on a day, one message an input batch: amounts "
    "add up over rows; a row whose last_offset was applied already is a repeat.",
    key="none; partition = the source partition",
    schema="user_episode_daily",
    partitions=EVENT_PATH,
    max_message_bytes=16 * MEGABYTE,
)

TRENDING_EPISODES = AvroTopic(
    "trending-episodes",
    "The ranking of a scope (`all`, `category:…`, `language:…`) among one partition's "
    "episodes; a reader merges the partitions.",
    key="scope|partition",
    schema="trending",
    partitions=1,
    cleanup="compact",
)

EPISODE_ANOMALIES = AvroTopic(
    "episode-anomalies",
    "Episodes that are suddenly heard much more, or much less, than before.",
    key="episode_id|at",
    schema="episode_anomaly",
    partitions=1,
)

TOPICS: tuple[Topic, ...] = (
    ENGAGEMENT_WINDOWS,
    ENGAGEMENT_HISTORY,
    ENGAGEMENT_TOTALS,
    ROLLING_WINDOWS,
    EPISODE_DAYS,
    EPISODE_RETENTION,
    AUDIENCE_DAYS,
    LATE_EVENTS,
    TABLE_PROGRESS,
    LISTENING_SESSIONS,
    LISTENING_STREAKS,
    USER_EPISODE_DAILY,
    TRENDING_EPISODES,
    EPISODE_ANOMALIES,
)
