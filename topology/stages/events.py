"""From what listeners do to batches of it."""

from __future__ import annotations

from topology.model import declare_stage
from topology.topics.engagement import TRENDING_EPISODES
from topology.topics.events import USER_EVENT_BATCHES, USER_EVENTS
from topology.topics.ingest import EPISODE_METADATA
from topology.topics.recommendation import RECOMMENDATIONS

SIMULATE_LISTENERS = declare_stage(
    "simulate_listeners",
    "Plays the listeners: looks at its recommendations and reacts to them.",
    runner="confluent",
    entry_point="streams.demo.simulate_listeners",
    worker="simulate_listeners",
    broadcast=(EPISODE_METADATA, RECOMMENDATIONS, TRENDING_EPISODES),
    produces=(USER_EVENTS,),
    demo_only=True,
)

BATCH_EVENTS = declare_stage(
    "batch_events",
    "Validates events, hands those over that lie in another partition than their listener's, "
    "drops repeats and packs the others into columnar batches.",
    runner="confluent",
    versioned=True,
    entry_point="streams.events.batch_events",
    worker="batch_events",
    consumes=(USER_EVENTS,),
    produces=(USER_EVENT_BATCHES,),
    hands_over=(USER_EVENTS,),
)

STAGES = (
    SIMULATE_LISTENERS,
    BATCH_EVENTS,
)
