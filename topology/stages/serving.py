"""From the log to what people look at."""

from __future__ import annotations

from topology.model import declare_stage
from topology.topics.engagement import (
    ENGAGEMENT_TOTALS,
    ENGAGEMENT_WINDOWS,
    EPISODE_ANOMALIES,
    EPISODE_DAYS,
    EPISODE_RETENTION,
    ROLLING_WINDOWS,
    TABLE_PROGRESS,
    TRENDING_EPISODES,
)
from topology.topics.events import FORGET_REQUESTS
from topology.topics.ingest import EPISODE_METADATA
from topology.topics.operations import (
    SERVED_GENERATION,
    SERVED_VERSION,
    STAGE_FAILURES,
    TABLE_GENERATIONS,
)
from topology.topics.recommendation import (
    GENERATION_REFUSALS,
    MODEL_GENERATIONS,
    MODEL_METRICS,
    RECOMMENDATIONS,
)
from topology.topics.similarity import EPISODE_NEIGHBOURS

SERVE_MONGO = declare_stage(
    "serve_mongo",
    "Keeps MongoDB in step with the log by idempotent batched upserts.",
    runner="faust",
    versioned=True,
    entry_point="streams.serving.serve_mongo",
    worker="serve",
    consumes=(
        RECOMMENDATIONS,
        ENGAGEMENT_WINDOWS,
        ENGAGEMENT_TOTALS,
        ROLLING_WINDOWS,
        EPISODE_DAYS,
        EPISODE_RETENTION,
        EPISODE_ANOMALIES,
        TABLE_PROGRESS,
        TRENDING_EPISODES,
        EPISODE_METADATA,
        EPISODE_NEIGHBOURS,
        MODEL_METRICS,
        MODEL_GENERATIONS,
        GENERATION_REFUSALS,
        STAGE_FAILURES,
        TABLE_GENERATIONS,
        SERVED_VERSION,
        SERVED_GENERATION,
    ),
    writes=(
        "final_recommendations",
        "engagement_windows",
        "engagement_totals",
        "rolling_windows",
        "rolling_window_parts",
        "episode_days",
        "episode_anomalies",
        "table_progress",
        "trending_episodes",
        "episodes",
        "episode_neighbours",
        "model_metrics",
        "model_generations",
        "generation_refusals",
        "served_generation",
        "stage_failures",
        "serving_progress",
        "document_expiry",
        "table_generations",
        "served_version",
    ),
)

DASHBOARD = declare_stage(
    "dashboard",
    "Shows live windows, recommendations, models and history.",
    runner="streamlit",
    entry_point="dashboard/app.py",
    worker="dashboard",
    reads=(
        "final_recommendations",
        "engagement_windows",
        "engagement_totals",
        "rolling_windows",
        "episode_days",
        "episode_anomalies",
        "table_progress",
        "trending_episodes",
        "episodes",
        "model_metrics",
        "model_generations",
        "generation_refusals",
        "served_generation",
        "stage_failures",
        "table_generations",
        "served_version",
        "user_events",
        "user_vs_episode_daily",
        "engagement_minutes",
        "episode_daily",
        "episode_retention",
        "audience_daily",
        "listening_sessions",
        "recommendations_history",
        "transcripts",
        "episode_analysis",
        "episode_duplicates",
        "episode_topics",
        "topics",
    ),
)

READ_API = declare_stage(
    "read_api",
    "Answers apps over HTTP: recommendations, similar and trending episodes, live statistics; "
    "takes requests to forget a listener.",
    runner="uvicorn",
    entry_point="streams.api.read_api",
    worker="api",
    produces=(FORGET_REQUESTS,),
    reads=(
        "final_recommendations",
        "episode_neighbours",
        "trending_episodes",
        "episodes",
        "rolling_windows",
        "episode_days",
        "served_version",
    ),
)

STAGES = (
    SERVE_MONGO,
    READ_API,
    DASHBOARD,
)
