"""From what listeners do to batches of it."""

from __future__ import annotations

from topology.model import declare_stage
from topology.topics.engagement import TRENDING_EPISODES
from topology.topics.events import (
    FORGET_REQUESTS,
    FORGOTTEN_LISTENERS,
    USER_EVENT_BATCHES,
    USER_EVENTS,
)
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
    "drops repeats and packs the others into columnar batches; says in their order who is "
    "forgotten.",
    runner="confluent",
    versioned=True,
    entry_point="streams.events.batch_events",
    worker="batch_events",
    consumes=(USER_EVENTS, FORGET_REQUESTS),
    broadcast=(FORGOTTEN_LISTENERS,),
    produces=(USER_EVENT_BATCHES, FORGOTTEN_LISTENERS),
    hands_over=(USER_EVENTS,),
)

STAGES = (
    SIMULATE_LISTENERS,
    BATCH_EVENTS,
)
