"""Topics of models, what they are worth, and the lists they make."""

from __future__ import annotations

from topology.model import EVENT_PATH, MEGABYTE, AvroTopic, Topic

ITEM_FACTORS = AvroTopic(
    "item-factors",
    "Item vectors of every ALS generation; the newest one counts.",
    key="episode_id",
    schema="item_factors",
    partitions=2,
    cleanup="compact",
)

ITEM_NEIGHBOURS = AvroTopic(
    "item-neighbours",
    "Neighbours and listeners of every item by the newest generation.",
    key="episode_id",
    schema="item_neighbours",
    partitions=2,
    cleanup="compact",
)

RANKERS = AvroTopic(
    "rankers",
    "The coefficients by which the newest generation ranks candidates.",
    key="`ranker`",
    schema="ranker",
    partitions=1,
    cleanup="compact",
)

MODEL_GENERATIONS = AvroTopic(
    "model-generations",
    "One record a finished training, written after all that belongs to it; of one that the trainer "
    "refuses, the record alone.",
    key="generation",
    schema="model_generation",
    partitions=1,
)

GENERATION_REFUSALS = AvroTopic(
    "generation-refusals",
    "Published generations that `recommend` makes no lists with, and why.",
    key="generation",
    schema="generation_refusal",
    partitions=1,
    cleanup="compact",
)

MODEL_METRICS = AvroTopic(
    "model-metrics",
    "Offline and prequential figures of every model.",
    key="model|generation|metric",
    schema="model_metric",
    partitions=1,
)

BLEND_WEIGHTS = AvroTopic(
    "blend-weights",
    "How much each signal earns plays, learned per source partition; a reader averages.",
    key="source partition",
    schema="blend_weights",
    partitions=1,
    cleanup="compact",
)

RECOMMENDATIONS = AvroTopic(
    "recommendations",
    "The current list of each listener, best first, with reasons.",
    key="user_id; partition = the source partition of the listener's events",
    schema="recommendation",
    partitions=EVENT_PATH,
    cleanup="compact",
    max_message_bytes=4 * MEGABYTE,
)

TOPICS: tuple[Topic, ...] = (
    ITEM_FACTORS,
    ITEM_NEIGHBOURS,
    RANKERS,
    MODEL_GENERATIONS,
    GENERATION_REFUSALS,
    MODEL_METRICS,
    BLEND_WEIGHTS,
    RECOMMENDATIONS,
)
