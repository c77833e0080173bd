"""Stage `embed_transcripts`: a vector for every transcript, the episodes nearest to it, its topic.

A small model is best kept in one place: the driver embeds, in `foreachBatch`, a few transcripts at
a time, so that the first results come early. What is sent are absolute values by episode, and a
text that has its vector already is skipped, so repeating a micro-batch is harmless and cheap.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from jobs.core.chunks import chunks
from jobs.core.neighbours import mean_pool, nearest
from jobs.embedding_model import Model
from jobs.kafka_source import Launch, checkpoint, read_topics
from jobs.output import Output
from jobs.topic_output import TopicOutput
from schemas.codec import BadRecordError
from streams.kafka import TopicReader
from topology.graph import check_reads
from topology.model import Graph
from topology.settings import Settings

log = logging.getLogger(__name__)

STAGE = "embed_transcripts"
NEIGHBOURS = 20
_MESSAGES_A_BATCH = 256
_TRANSCRIPTS_AT_ONCE = 16


class StoppingError(RuntimeError):
    """The application is stopping: the micro-batch is left to be repeated."""


class Known:
    """The vectors of all episodes so far, by one model."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.hashes: list[str] = []
        self._vectors = np.zeros((0, 0), dtype=np.float32)
        self._row: dict[str, int] = {}

    @property
    def vectors(self) -> NDArray[np.float32]:
        return self._vectors[: len(self.ids)]

    def has(self, episode_id: str, text_hash: str) -> bool:
        row = self._row.get(episode_id)
        return row is not None and self.hashes[row] == text_hash

    def row(self, episode_id: str) -> int:
        return self._row[episode_id]

    def put(self, episode_id: str, vector: NDArray[np.float32], text_hash: str) -> None:
        """Add or replace; room is doubled when it runs out."""
        row = self._row.setdefault(episode_id, len(self.ids))
        if row == len(self.ids):
            self.ids.append(episode_id)
            self.hashes.append(text_hash)
        if row >= len(self._vectors):
            room = np.zeros((max(256, 2 * row), len(vector)), dtype=np.float32)
            room[: len(self._vectors)] = self._vectors.reshape(-1, len(vector))
            self._vectors = room
        self.hashes[row] = text_hash
        self._vectors[row] = vector


class TranscriptEmbedder:
    """Embeds micro-batches of transcripts."""

    def __init__(self, settings: Settings, graph: Graph, model: Model, stopping: threading.Event):
        self._stage = graph.stages[STAGE]
        self._output = Output(settings, graph, self._stage)
        self._model = model
        self._stopping = stopping
        self.known = Known()
        self._topics = TopicOutput(self._output, model.name)
        self._read_known(settings)

    def _read_known(self, settings: Settings) -> None:
        names = ["episode-embeddings", "episode-analysis", "topics"]
        for name in names:
            check_reads(self._stage, name)
        reader = TopicReader(settings.kafka_bootstrap_servers, names)

        def apply(messages: list) -> None:
            for message in messages:
                key = (message.key or b"").decode(errors="replace")
                try:
                    record = message.value and self._output.wire.decode(
                        message.topic, message.value
                    )
                except BadRecordError as error:
                    log.warning("%s@%d is passed over: %s", message.topic, message.offset, error)
                    continue
                if message.topic == "topics":
                    self._topics.restore(key, record)
                elif record is None:
                    continue
                elif message.topic == "episode-analysis":
                    self._topics.restore_phrases(record)
                elif record["model"] == self._model.name:
                    vector = np.frombuffer(record["vector"], dtype="<f4")
                    self.known.put(record["episode_id"], vector, record["text_hash"])

        reader.read_to_end(apply)
        reader.close()

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Embed what is new in a micro-batch and send it; all is delivered on return."""
        columns = ("topic", "partition", "offset", "value")
        messages = sorted(batch.select(*columns).collect(), key=itemgetter(1, 2))
        newest: dict[str, dict[str, Any]] = {}
        bad = []
        for topic, partition, offset, value in messages:
            if value is None:
                continue
            try:
                record = self._output.wire.decode(topic, bytes(value))
            except BadRecordError as error:
                bad.append((topic, partition, offset, str(error)))
                continue
            newest[record["episode_id"]] = record
        if bad:
            self._output.dead_letters(bad)
        for group in _groups([r for r in newest.values() if r["status"] == "ok"]):
            if self._stopping.is_set():
                raise StoppingError(STAGE)
            self.embed(group)
        self._topics.send(self.known.ids, self.known.vectors)
        self._output.flush()

    def embed(self, transcripts: Sequence[dict[str, Any]]) -> None:
        """Embed transcripts together; those without words or already known are skipped."""
        cut = {}
        for transcript in transcripts:
            parts = chunks(transcript)
            text_hash = hashlib.sha256("\n".join(parts).encode()).hexdigest()
            if parts and not self.known.has(transcript["episode_id"], text_hash):
                cut[transcript["episode_id"]] = parts, text_hash
                self._topics.read(transcript)
        if not cut:
            return
        vectors = self._model.encode([part for parts, _ in cut.values() for part in parts])
        start = 0
        for episode_id, (parts, text_hash) in cut.items():
            vector = mean_pool(vectors[start : start + len(parts)])
            start += len(parts)
            self.known.put(episode_id, vector, text_hash)
            record = {
                "episode_id": episode_id,
                "model": self._model.name,
                "vector": vector.astype("<f4").tobytes(),
                "chunks": len(parts),
                "text_hash": text_hash,
            }
            self._output.send("episode-embeddings", record, episode_id)
        self._send_neighbours(list(cut))
        self._output.flush()
        log.info("embedded %d transcripts, %d stretches", len(cut), len(vectors))

    def _send_neighbours(self, episode_ids: list[str]) -> None:
        rows = [self.known.row(episode_id) for episode_id in episode_ids]
        lists = nearest(self.known.ids, self.known.vectors, rows, NEIGHBOURS)
        for episode_id, near in zip(episode_ids, lists, strict=True):
            record = {
                "episode_id": episode_id,
                "model": self._model.name,
                "neighbours": [{"episode_id": other, "score": score} for other, score in near],
            }
            self._output.send("episode-neighbours", record, episode_id)


def _groups(transcripts: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    size = _TRANSCRIPTS_AT_ONCE
    return [transcripts[start : start + size] for start in range(0, len(transcripts), size)]


def start(
    spark: SparkSession, settings: Settings, graph: Graph, model: Model, stopping: threading.Event
) -> list[Launch]:
    """Give the stage's query, ready to be launched."""
    stage = graph.stages[STAGE]
    embedder = TranscriptEmbedder(settings, graph, model, stopping)
    stream = (
        read_topics(spark, settings, stage, stage.consumes, _MESSAGES_A_BATCH)
        .writeStream.queryName(STAGE)
        .foreachBatch(embedder)
        .option("checkpointLocation", checkpoint(settings, stage))
        .trigger(processingTime="2 seconds")
    )
    return [stream.start]
