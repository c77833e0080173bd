"""Tells the log how far the queries have got, and purges what everybody has read.

Spark keeps its progress in checkpoints that nobody else reads. It is committed for the stages'
consumer groups as well, so that it counts where derived topics are purged behind their readers
(`streams.kafka.purge`), and is seen by whatever measures lag. It is done here because there is one
process of this kind in every deployment, and nothing may go before it has read it. The disk of an
instance on one machine is measured beside it, so that its growth is known when somebody asks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from confluent_kafka import KafkaException
from pyspark.sql.streaming.query import StreamingQuery

from jobs.kafka_source import reached
from jobs.session import is_local
from streams.kafka.purge import Reached, commit, purge
from streams.operations import disk
from topology.graph import app_id
from topology.model import Graph
from topology.settings import Settings

log = logging.getLogger(__name__)

EVERY_S = 60.0


class Housekeeping:
    """Done every minute, by whoever calls `tick` often enough."""

    def __init__(self, settings: Settings, graph: Graph):
        self._settings = settings
        self._graph = graph
        self._due = time.monotonic() + EVERY_S

    def tick(self, queries: Sequence[StreamingQuery]) -> None:
        """Do what is due. A broker that fails now is asked again a minute later."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + EVERY_S
        try:
            self.run(queries)
        except (KafkaException, TimeoutError) as error:
            log.warning("not everything was purged: %s", error or type(error).__name__)
        if is_local(self._settings):
            self._look_at_disk()

    def _look_at_disk(self) -> None:
        try:
            disk.sample(self._settings)
        except OSError as error:
            log.warning("the disk was not measured: %s", error)
        if (short := disk.shortage(self._settings)) is not None:
            log.warning("%s", short)

    def finish(self, queries: Sequence[StreamingQuery]) -> None:
        """Commit how far the queries got before they were stopped."""
        try:
            self._tell(queries)
        except KafkaException as error:
            log.warning("the last progress was not committed: %s", error)

    def run(self, queries: Sequence[StreamingQuery]) -> dict[str, int]:
        """Commit the queries' progress, then purge; how many records went from each topic.

        Of what Spark reads, only that goes which a query has reported in this run: what was
        committed may be ahead of a checkpoint that was removed or restored since.
        """
        reported = self._tell(queries)
        purged = purge(self._settings, self._graph, reported)
        if purged:
            log.info("purged %s", ", ".join(f"{n} of {name}" for name, n in purged.items()))
        return purged

    def _tell(self, queries: Sequence[StreamingQuery]) -> Reached:
        reported = reached(queries)
        for stage, offsets in reported.items():
            commit(self._settings, app_id(self._graph.stages[stage]), offsets)
        return reported
