"""What the log says of generations, for whoever looks at them from outside the stages."""

from __future__ import annotations

from typing import Any

from schemas.registry import RestRegistry, TopicRegistry
from streams.kafka.clients import send_all
from streams.kafka.log_reader import read_all
from streams.kafka.message import Message
from streams.kafka.wire import Wire
from streams.recommendation.core.listing import ListedGeneration, listed
from topology.graph import build_graph
from topology.settings import Settings
from topology.topics.operations import SERVED_GENERATION
from topology.topics.recommendation import GENERATION_REFUSALS, MODEL_GENERATIONS

TIMEOUT_S = 30.0


class GenerationLog:
    """The records of trainings, refusals and choices. KafkaException and SilentLogError where the
    broker fails."""

    def __init__(self, settings: Settings, registry: TopicRegistry | RestRegistry):
        self._servers, self._kept = settings.kafka_bootstrap_servers, settings.als_kept
        self._wire = Wire(build_graph(settings.event_partitions), registry)

    def read(self) -> list[ListedGeneration]:
        """Every training, newest first. KeyError if the cluster has no such topics yet."""
        trained, refused, chosen = MODEL_GENERATIONS, GENERATION_REFUSALS, SERVED_GENERATION
        found: dict[str, list[dict[str, Any]]]
        found = {topic.name: [] for topic in (trained, refused, chosen)}

        def apply(messages: list[Message]) -> None:
            for message in messages:
                record = self._wire.decode(message.topic, message.value)
                if record is not None:
                    found[message.topic].append(record)

        read_all(self._servers, list(found), apply)
        choices = found[chosen.name]
        choice = choices[-1] if choices else None
        return listed(found[trained.name], found[refused.name], choice, self._kept)

    def choose(self, record: dict[str, Any]) -> None:
        """Say which generation is to serve. DeliveryError if the broker does not take it."""
        topic = SERVED_GENERATION.name
        sent = {"key": record["model"], "value": self._wire.encode(topic, record)}
        send_all(self._servers, topic, [sent], TIMEOUT_S)
