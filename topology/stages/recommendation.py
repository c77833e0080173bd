"""From facts to models, and from events to lists."""

from __future__ import annotations

from topology.model import declare_stage
from topology.tables import BLEND, LISTENERS
from topology.topics.analysis import EPISODE_ANALYSIS
from topology.topics.engagement import TRENDING_EPISODES
from topology.topics.events import USER_EVENT_BATCHES
from topology.topics.ingest import EPISODE_METADATA
from topology.topics.operations import SERVED_GENERATION, STAGE_FAILURES
from topology.topics.recommendation import (
    BLEND_WEIGHTS,
    GENERATION_REFUSALS,
    ITEM_FACTORS,
    ITEM_NEIGHBOURS,
    MODEL_GENERATIONS,
    MODEL_METRICS,
    RANKERS,
    RECOMMENDATIONS,
)
from topology.topics.similarity import (
    EPISODE_EMBEDDINGS,
    EPISODE_NEIGHBOURS,
    EPISODE_SUBJECTS,
    SUBJECTS,
)
from topology.topics.transcripts import EPISODE_TRANSCRIPTS

EMBED_TRANSCRIPTS = declare_stage(
    "embed_transcripts",
    "Embeds transcripts, finds the nearest episodes and groups all of them by topic.",
    runner="spark",
    entry_point="jobs.embed_transcripts",
    worker="spark",
    consumes=(EPISODE_TRANSCRIPTS,),
    broadcast=(EPISODE_EMBEDDINGS, EPISODE_NEIGHBOURS, EPISODE_ANALYSIS, SUBJECTS, STAGE_FAILURES),
    produces=(EPISODE_EMBEDDINGS, EPISODE_NEIGHBOURS, EPISODE_SUBJECTS, SUBJECTS, STAGE_FAILURES),
)

TRAIN_ALS = declare_stage(
    "train_als",
    "Retrains implicit ALS, neighbours and ranker, evaluates them on a time split and publishes "
    "a generation, or says why not.",
    runner="spark",
    entry_point="jobs.train_als",
    worker="spark",
    broadcast=(MODEL_GENERATIONS, GENERATION_REFUSALS, SERVED_GENERATION, STAGE_FAILURES),
    produces=(
        ITEM_FACTORS,
        ITEM_NEIGHBOURS,
        RANKERS,
        MODEL_GENERATIONS,
        MODEL_METRICS,
        STAGE_FAILURES,
    ),
    reads=("user_vs_episode_daily",),
)

RECOMMEND = declare_stage(
    "recommend",
    "Finds candidates for each listener, ranks them by the generation in service, and explains; "
    "blends factors, content and trend where there is no ranker.",
    runner="faust",
    entry_point="streams.recommendation.recommend",
    worker="recommend",
    consumes=(USER_EVENT_BATCHES,),
    broadcast=(
        EPISODE_METADATA,
        ITEM_FACTORS,
        ITEM_NEIGHBOURS,
        RANKERS,
        MODEL_GENERATIONS,
        SERVED_GENERATION,
        EPISODE_EMBEDDINGS,
        TRENDING_EPISODES,
        BLEND_WEIGHTS,
    ),
    produces=(RECOMMENDATIONS, GENERATION_REFUSALS),
    tables=(LISTENERS,),
)

LEARN_BLEND = declare_stage(
    "learn_blend",
    "Learns online which signal earns plays; reports prequential metrics and drift.",
    runner="faust",
    entry_point="streams.recommendation.learn_blend",
    worker="learn",
    consumes=(USER_EVENT_BATCHES,),
    broadcast=(RECOMMENDATIONS,),
    produces=(BLEND_WEIGHTS, MODEL_METRICS),
    tables=(BLEND,),
)

STAGES = (
    EMBED_TRANSCRIPTS,
    TRAIN_ALS,
    RECOMMEND,
    LEARN_BLEND,
)
