"""Stage `embed_transcripts`: a vector for every transcript, its neighbours and its subject.

A small model is best kept in one place: the driver embeds, in `foreachBatch`, a few transcripts at
a time, so that the first results come early. What is sent are absolute values by episode, and a
text that has its vector already is skipped, so repeating a micro-batch is harmless and cheap.

The vector in the log is what says that a text is done. It is sent, and withdrawn, last: only once
everything else that follows from the text has been delivered, so that a kill loses none of it.
Subjects follow from all vectors together, and are told by every micro-batch.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeVar

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from jobs.core.chunks import chunks
from jobs.core.neighbours import mean_pool
from jobs.core.vector_index import VectorIndex
from jobs.embedding_model import Encoder, Model
from jobs.kafka_source import Launch, checkpoint, read_topics
from jobs.neighbour_output import NeighbourOutput
from jobs.output import Output
from jobs.subject_output import SubjectOutput
from schemas.codec import BadRecordError
from schemas.vectors import read_vector, vector_bytes
from streams.kafka.log_reader import read_all
from streams.kafka.message import Message
from topology.graph import check_reads
from topology.model import Graph
from topology.settings import Settings
from topology.topics.analysis import EPISODE_ANALYSIS
from topology.topics.similarity import EPISODE_EMBEDDINGS, EPISODE_NEIGHBOURS, SUBJECTS

log = logging.getLogger(__name__)

STAGE = "embed_transcripts"
RESTORED_FROM = (
    EPISODE_EMBEDDINGS.name,
    EPISODE_NEIGHBOURS.name,
    EPISODE_ANALYSIS.name,
    SUBJECTS.name,
)
_MESSAGES_A_BATCH = 256
_TRANSCRIPTS_AT_ONCE = 16
_LISTS_AT_ONCE = 64

T = TypeVar("T")


class StoppingError(RuntimeError):
    """The application is stopping: the micro-batch is left to be repeated."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A transcript with words in it; ``parts`` are its stretches."""

    transcript: dict[str, Any]
    parts: list[str]

    @property
    def episode_id(self) -> str:
        """The episode that the transcript is of."""
        name: str = self.transcript["episode_id"]
        return name

    @property
    def text_hash(self) -> str:
        """SHA-256 of what is embedded, in hexadecimal: the same text needs no new vectors."""
        return hashlib.sha256("\n".join(self.parts).encode()).hexdigest()


class TranscriptEmbedder:
    """Embeds micro-batches of transcripts, with ``encoder``, a model of the name ``model``."""

    def __init__(self, output: Output, encoder: Encoder, model: str, stopping: threading.Event):
        self._output = output
        self._encoder = encoder
        self._model = model
        self._stopping = stopping
        self._index = VectorIndex()
        self._neighbours = NeighbourOutput(output, model, self._index)
        self._subjects = SubjectOutput(output, model)
        self._embedded: set[str] = set()
        """Episodes that have a vector in the log, by whatever model."""

    def restore(self, messages: Sequence[Message]) -> None:
        """Take over what the topics `RESTORED_FROM` say, in the order of the log."""
        for message, record in self._output.wire.readable(messages, STAGE):
            key = message.key_text
            if message.topic == SUBJECTS.name:
                self._subjects.restore(key, record)
            elif message.topic == EPISODE_NEIGHBOURS.name:
                self._neighbours.restore(key, record)
            elif message.topic == EPISODE_ANALYSIS.name:
                self._subjects.restore_phrases(key, record)
            else:
                self._restore_vector(key, record)

    def _restore_vector(self, episode_id: str, record: dict[str, Any] | None) -> None:
        if record is None:
            self._embedded.discard(episode_id)
            self._index.drop(episode_id)
            return
        self._embedded.add(episode_id)
        if record["model"] == self._model:
            vector = read_vector(record["vector"])
            self._index.put(episode_id, vector, record["text_hash"])

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Embed what is new in a micro-batch and send it; all is delivered on return."""
        spoken, silent = self._read(batch)
        if silent:
            self._withdraw(silent)
        self._send_neighbours(self._neighbours.missing())
        for group in self._groups(spoken, _TRANSCRIPTS_AT_ONCE):
            self._embed(group)
        self._subjects.send(self._index.ids, self._index.vectors)
        self._output.flush()

    def _read(self, batch: DataFrame) -> tuple[list[Spoken], set[str]]:
        """The newest of each episode: with words, and the episodes that have none any more."""
        columns = ("topic", "partition", "offset", "key", "value")
        messages = sorted(batch.select(*columns).collect(), key=itemgetter(1, 2))
        newest: dict[str, dict[str, Any] | None] = {}
        bad = []
        for topic, partition, offset, key, value in messages:
            if value is None:
                newest[bytes(key or b"").decode(errors="replace")] = None
                continue
            try:
                record = self._output.wire.decode(topic, bytes(value))
            except BadRecordError as error:
                bad.append((topic, partition, offset, str(error)))
                continue
            newest[record["episode_id"]] = record
        if bad:
            self._output.dead_letters(bad)
        spoken, silent = [], set()
        for episode_id, transcript in newest.items():
            parts = chunks(transcript) if transcript and transcript["status"] == "ok" else []
            if transcript and parts:
                spoken.append(Spoken(transcript, parts))
            elif transcript is None or episode_id in self._embedded:
                silent.add(episode_id)
        return spoken, silent

    def _withdraw(self, episode_ids: set[str]) -> None:
        """Take episodes out of everything; those that were near to them get other neighbours."""
        for episode_id in episode_ids:
            self._index.drop(episode_id)
        self._send_neighbours(self._neighbours.naming(episode_ids))
        for episode_id in sorted(episode_ids):
            self._neighbours.withdraw(episode_id)
            self._subjects.withdraw(episode_id)
        self._output.flush()
        for episode_id in sorted(episode_ids):
            self._output.send(EPISODE_EMBEDDINGS.name, None, episode_id)
        self._output.flush()
        self._embedded -= episode_ids
        log.info("withdrew %d episodes", len(episode_ids))

    def _embed(self, group: Sequence[Spoken]) -> None:
        """Embed transcripts together; those already known are skipped."""
        new = []
        for spoken in group:
            is_known = self._index.has(spoken.episode_id, spoken.text_hash)
            if not is_known:
                new.append(spoken)
            if not is_known or not self._subjects.has_phrases(spoken.episode_id):
                self._subjects.read(spoken.transcript)
        if not new:
            return
        vectors = self._encoder.encode([part for spoken in new for part in spoken.parts])
        start, records = 0, []
        for spoken in new:
            end = start + len(spoken.parts)
            vector = mean_pool(vectors[start:end])
            start = end
            self._index.put(spoken.episode_id, vector, spoken.text_hash)
            record = {
                "episode_id": spoken.episode_id,
                "model": self._model,
                "vector": vector_bytes(vector),
                "chunks": len(spoken.parts),
                "text_hash": spoken.text_hash,
            }
            records.append(record)
        self._send_neighbours([spoken.episode_id for spoken in new])
        for record in records:
            self._output.send(EPISODE_EMBEDDINGS.name, record, str(record["episode_id"]))
        self._output.flush()
        self._embedded |= {spoken.episode_id for spoken in new}
        log.info("embedded %d transcripts, %d stretches", len(new), len(vectors))

    def _send_neighbours(self, episode_ids: Sequence[str]) -> None:
        """Send lists of neighbours; all are delivered on return."""
        for group in self._groups(episode_ids, _LISTS_AT_ONCE):
            self._neighbours.send(group)
            self._output.flush()

    def _groups(self, items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
        """A few at a time. Raises StoppingError between two groups."""
        for start in range(0, len(items), size):
            if self._stopping.is_set():
                raise StoppingError(STAGE)
            yield items[start : start + size]


def read_back(settings: Settings, graph: Graph, embedder: TranscriptEmbedder) -> None:
    """Tell the embedder what has been sent before."""
    for name in RESTORED_FROM:
        check_reads(graph.stages[STAGE], name)
    read_all(settings.kafka_bootstrap_servers, RESTORED_FROM, embedder.restore)


def start(
    spark: SparkSession, settings: Settings, graph: Graph, model: Model, stopping: threading.Event
) -> list[Launch]:
    """Give the stage's query, ready to be launched.

    Each launch begins with what has been sent: a batch that failed may have left more than that in
    memory.
    """
    stage = graph.stages[STAGE]

    def launch() -> StreamingQuery:
        embedder = TranscriptEmbedder(Output(settings, graph, stage), model, model.name, stopping)
        read_back(settings, graph, embedder)
        return (
            read_topics(spark, settings, stage, stage.consumes, _MESSAGES_A_BATCH)
            .writeStream.queryName(STAGE)
            .foreachBatch(embedder)
            .option("checkpointLocation", checkpoint(settings, stage))
            .trigger(processingTime="2 seconds")
            .start()
        )

    return [launch]
