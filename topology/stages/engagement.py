"""From batches of events to live tables."""

from __future__ import annotations

from topology.model import declare_stage
from topology.tables import ANOMALY_MODELS, ENGAGEMENT_STATE, LISTENING_STATE, TRENDING
from topology.topics.engagement import (
    AUDIENCE_DAYS,
    ENGAGEMENT_HISTORY,
    ENGAGEMENT_TOTALS,
    ENGAGEMENT_WINDOWS,
    EPISODE_ANOMALIES,
    EPISODE_DAYS,
    EPISODE_RETENTION,
    LATE_EVENTS,
    LISTENING_SESSIONS,
    LISTENING_STREAKS,
    ROLLING_WINDOWS,
    TABLE_PROGRESS,
    TRENDING_EPISODES,
    USER_EPISODE_DAILY,
)
from topology.topics.events import USER_EVENT_BATCHES
from topology.topics.ingest import EPISODE_METADATA

TRACK_ENGAGEMENT = declare_stage(
    "track_engagement",
    "Counts what happens to each episode, show and category: minutes, rolling windows, "
    "days, downloads, retention.",
    runner="faust",
    versioned=True,
    version=2,
    entry_point="streams.engagement.track_engagement",
    worker="track",
    consumes=(USER_EVENT_BATCHES,),
    broadcast=(EPISODE_METADATA,),
    produces=(
        ENGAGEMENT_WINDOWS,
        ENGAGEMENT_HISTORY,
        ENGAGEMENT_TOTALS,
        ROLLING_WINDOWS,
        EPISODE_DAYS,
        EPISODE_RETENTION,
        AUDIENCE_DAYS,
        LATE_EVENTS,
        TABLE_PROGRESS,
    ),
    tables=(ENGAGEMENT_STATE,),
)

TRACK_LISTENING = declare_stage(
    "track_listening",
    "Works out who heard how much of what, per day; sessions and streaks.",
    runner="faust",
    versioned=True,
    version=2,
    entry_point="streams.engagement.track_listening",
    worker="track",
    consumes=(USER_EVENT_BATCHES,),
    produces=(
        USER_EPISODE_DAILY,
        LISTENING_SESSIONS,
        LISTENING_STREAKS,
        TABLE_PROGRESS,
    ),
    tables=(LISTENING_STATE,),
)

RANK_TRENDING = declare_stage(
    "rank_trending",
    "Ranks episodes by how many listeners are new to them, overall and per category and language.",
    runner="faust",
    versioned=True,
    version=2,
    entry_point="streams.engagement.rank_trending",
    worker="track",
    consumes=(ENGAGEMENT_WINDOWS,),
    broadcast=(EPISODE_METADATA,),
    produces=(TRENDING_EPISODES,),
    tables=(TRENDING,),
)

DETECT_ANOMALIES = declare_stage(
    "detect_anomalies",
    "Finds episodes that are suddenly heard much more, or much less, than before.",
    runner="faust",
    versioned=True,
    version=2,
    entry_point="streams.engagement.detect_anomalies",
    worker="track",
    consumes=(ENGAGEMENT_WINDOWS,),
    produces=(EPISODE_ANOMALIES,),
    tables=(ANOMALY_MODELS,),
)

STAGES = (
    TRACK_ENGAGEMENT,
    TRACK_LISTENING,
    RANK_TRENDING,
    DETECT_ANOMALIES,
)
