"""Topics of models, what they are worth, and the lists they make."""

from __future__ import annotations

from topology.model import EVENT_PATH, MEGABYTE, AvroTopic, Topic

ITEM_FACTORS = AvroTopic(
    "item-factors",
    "Item vectors of the latest ALS generations, each in a slot, where the next one takes its "
    "place.",
    key="episode_id; in slots other than 0 with U+001F and the slot behind it",
    schema="item_factors",
    partitions=2,
    cleanup="compact",
)

ITEM_NEIGHBOURS = AvroTopic(
    "item-neighbours",
    "Neighbours and listeners of every item by the latest generations.",
    key="as in `item-factors`",
    schema="item_neighbours",
    partitions=2,
    cleanup="compact",
)

RANKERS = AvroTopic(
    "rankers",
    "The coefficients by which the latest generations rank candidates.",
    key="`ranker`; in slots other than 0 with U+001F and the slot behind it",
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
