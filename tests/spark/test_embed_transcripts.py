"""The stage on a real broker: killed between two deliveries and begun again from its checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

from jobs import embed_transcripts
from jobs.kafka_source import failed_to_report
from jobs.output import Output
from streams.kafka.clients import DeliveryError, producer
from streams.kafka.log_reader import LogTail
from streams.kafka.message import Message
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from topology.model import Graph
from topology.settings import Settings

pytestmark = [pytest.mark.spark, pytest.mark.broker]

TOPICS = ("episode-embeddings", "episode-neighbours", "episode-topics")


class Model:
    """A direction for each length of a text."""

    name = "lengths"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[np.cos(len(t)), np.sin(len(t))] for t in texts], dtype=np.float32)


@pytest.mark.timeout(280)
def test_what_follows_from_a_transcript_outlives_a_kill_and_goes_with_it(
    spark: SparkSession, settings: Settings, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(graph, open_registry(settings))
    sender = producer(settings.kafka_bootstrap_servers)

    def told() -> dict[str, dict[str, Any]]:
        newest: dict[str, dict[str, Any]] = {topic: {} for topic in TOPICS}

        def apply(messages: list[Message]) -> None:
            for message in messages:
                key = (message.key or b"").decode()
                if key.startswith("embed:"):
                    value = message.value
                    newest[message.topic][key] = value and wire.decode(message.topic, value)

        reader = LogTail(settings.kafka_bootstrap_servers, TOPICS)
        reader.read_to_end(apply)
        reader.close()
        return {
            topic: {key: record for key, record in found.items() if record is not None}
            for topic, found in newest.items()
        }

    def run() -> None:
        model: Any = Model()
        (launch,) = embed_transcripts.start(spark, settings, graph, model, threading.Event())
        while True:
            query = launch()
            try:
                return query.processAllAvailable()
            except StreamingQueryException:
                if not failed_to_report(query):  # as the application does
                    raise
            finally:
                query.stop()

    def killed_at(topic: str) -> None:
        """A life that ends at its first record of a topic; all before it is delivered."""
        send = Output.send

        def die(output: Output, sent_to: str, record: Any, key: str) -> None:
            if sent_to == topic:
                output.flush()
                raise DeliveryError("killed")
            send(output, sent_to, record, key)

        with monkeypatch.context() as patch:
            patch.setattr(Output, "send", die)
            with pytest.raises(StreamingQueryException, match="killed"):
                run()

    names = {f"embed:{n}" for n in range(3)}
    for n, name in enumerate(sorted(names)):
        record = {"episode_id": name, "status": "ok", "text": "spoken words" + "!" * n}
        sender.produce("episode-transcripts", wire.encode("episode-transcripts", record), name)
    sender.flush(30)
    killed_at("episode-neighbours")
    assert told()["episode-embeddings"] == {}, "nothing says that it is done"
    killed_at("episode-embeddings")
    run()
    found = told()
    assert found["episode-embeddings"].keys() == found["episode-neighbours"].keys() == names
    sender.produce("episode-transcripts", None, "embed:0")
    sender.flush(30)
    killed_at("episode-topics")
    run()
    found = told()
    left = names - {"embed:0"}
    assert found["episode-embeddings"].keys() == found["episode-neighbours"].keys() == left
    for record in found["episode-neighbours"].values():
        assert "embed:0" not in {near["episode_id"] for near in record["neighbours"]}
