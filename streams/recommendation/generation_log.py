"""What the log says of generations, for whoever looks at them from outside the stages."""

from __future__ import annotations

from typing import Any

from schemas.registry import RestRegistry, TopicRegistry
from streams.kafka.log_reader import read_all
from streams.kafka.message import Message
from streams.kafka.wire import Wire
from streams.recommendation.core.listing import ListedGeneration, listed
from topology.graph import build_graph
from topology.settings import Settings
from topology.topics.recommendation import GENERATION_REFUSALS, MODEL_GENERATIONS


class GenerationLog:
    """The records of trainings and refusals. KafkaException and SilentLogError where the broker
    fails."""

    def __init__(self, settings: Settings, registry: TopicRegistry | RestRegistry):
        self._servers = settings.kafka_bootstrap_servers
        self._wire = Wire(build_graph(settings.event_partitions), registry)

    def read(self) -> list[ListedGeneration]:
        """Every training, newest first. KeyError if the cluster has no such topics yet."""
        found: dict[str, list[dict[str, Any]]]
        found = {MODEL_GENERATIONS.name: [], GENERATION_REFUSALS.name: []}

        def apply(messages: list[Message]) -> None:
            for message in messages:
                record = self._wire.decode(message.topic, message.value)
                if record is not None:
                    found[message.topic].append(record)

        read_all(self._servers, list(found), apply)
        return listed(found[MODEL_GENERATIONS.name], found[GENERATION_REFUSALS.name])
