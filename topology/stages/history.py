"""From every fact to Delta Lake."""

from __future__ import annotations

from topology.model import declare_stage
from topology.topics.analysis import EPISODE_ANALYSIS, EPISODE_DUPLICATES
from topology.topics.engagement import (
    AUDIENCE_DAYS,
    ENGAGEMENT_HISTORY,
    EPISODE_DAYS,
    EPISODE_RETENTION,
    LISTENING_SESSIONS,
    USER_EPISODE_DAILY,
)
from topology.topics.events import FORGOTTEN_LISTENERS, USER_EVENT_BATCHES
from topology.topics.ingest import EPISODE_METADATA
from topology.topics.recommendation import MODEL_METRICS, RECOMMENDATIONS
from topology.topics.similarity import EPISODE_SUBJECTS, SUBJECTS
from topology.topics.transcripts import EPISODE_TRANSCRIPTS

WRITE_DELTA = declare_stage(
    "write_delta",
    "Writes every fact topic to Delta Lake, the queryable history, and removes from it whoever is "
    "forgotten.",
    runner="spark",
    entry_point="jobs.write_delta",
    worker="spark",
    consumes=(
        EPISODE_METADATA,
        EPISODE_TRANSCRIPTS,
        EPISODE_ANALYSIS,
        EPISODE_DUPLICATES,
        EPISODE_SUBJECTS,
        SUBJECTS,
        USER_EVENT_BATCHES,
        USER_EPISODE_DAILY,
        ENGAGEMENT_HISTORY,
        EPISODE_DAYS,
        EPISODE_RETENTION,
        AUDIENCE_DAYS,
        LISTENING_SESSIONS,
        RECOMMENDATIONS,
        MODEL_METRICS,
    ),
    broadcast=(FORGOTTEN_LISTENERS,),
    writes=(
        "episodes",
        "transcripts",
        "episode_analysis",
        "episode_duplicates",
        "episode_topics",
        "topics",
        "user_events",
        "user_vs_episode_daily",
        "engagement_minutes",
        "episode_daily",
        "episode_retention",
        "audience_daily",
        "listening_sessions",
        "recommendations_history",
        "model_metrics",
    ),
)

STAGES = (WRITE_DELTA,)
