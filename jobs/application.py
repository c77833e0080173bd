"""`python -m jobs.application`: the one Spark application, with every Spark stage in it.

It ends cleanly (exit 0) on SIGTERM or SIGINT: micro-batches in progress are finished or left to
be repeated. If a query that writes to Delta dies, it is logged, everything is stopped and the exit
code is 1, so that the supervisor starts it anew from the checkpoints. A training or an embedding
that fails ends nothing else: it is tried again, later each time, and `stage-failures` says why.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable

import psutil
from confluent_kafka import KafkaException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from requests import RequestException

from jobs import embed_transcripts, monitoring, train_als, write_delta
from jobs.attempts import Attempts
from jobs.embedding_model import Model
from jobs.fencing import ForeignTableError
from jobs.gaps import GapError, check_gaps
from jobs.housekeeping import Housekeeping
from jobs.kafka_source import failed_to_report
from jobs.retried_query import RetriedQuery
from jobs.session import build_session
from streams.kafka.entry import refusals_as_sentences, require_access
from streams.kafka.registry import open_registry
from streams.monitoring.instruments import measured
from streams.monitoring.logs import set_up_logs
from streams.monitoring.server import serve
from topology.access import admin_client
from topology.graph import declared_subjects, get_graph
from topology.model import Graph
from topology.settings import Settings, get_settings

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_NICE = 10
_FIRST_RESULTS_S = 60.0
_BATCH_ENDS_S = 8.0
_TRAINING_ENDS_S = 5.0
"""How long a stop waits for a training: what it had not published is trained anew."""


def run(
    spark: SparkSession,
    settings: Settings,
    model: Model,
    stopping: threading.Event,
) -> int:
    """Run every stage until ``stopping`` is set (0) or one of them dies (1)."""
    graph = get_graph()
    queries: list[StreamingQuery] = []
    embedding: list[RetriedQuery] = []

    def all_queries() -> list[StreamingQuery]:
        return active(queries, embedding)

    measured(lambda: monitoring.families(all_queries))
    serve(settings, "spark", ready=lambda: monitoring.missing(all_queries), children=True)
    if not wait_for_topology(settings, graph, stopping):
        return 0
    check_gaps(settings, graph, write_delta.histories(settings, graph))
    launches = write_delta.start(spark, settings, graph)
    queries += [launch() for launch in launches]
    embedder = graph.stages[embed_transcripts.STAGE]
    embedding += [
        RetriedQuery(launch, Attempts(settings, graph, embedder), model.renew)
        for launch in embed_transcripts.start(spark, settings, graph, model, stopping)
    ]
    trainer = train_als.start(spark, settings, graph, stopping)
    log.info("running: %s, %s", ", ".join(query.name for query in queries), trainer.name)
    failures: list[str] = []
    begun = time.monotonic()
    stepped_back = False
    housekeeping = Housekeeping(settings, graph)
    while not failures and not stopping.wait(_LOOK_EVERY_S):
        if not stepped_back and time.monotonic() - begun > _FIRST_RESULTS_S:
            lower_priority()
            stepped_back = True
        for place, query in enumerate(queries):
            if not query.isActive and failed_to_report(query):
                log.warning("%s has repeated its last micro-batch and goes on", query.name)
                queries[place] = launches[place]()
        failures = [f"{q.name}: {q.exception()}" for q in queries if not q.isActive]
        housekeeping.tick([query for query in all_queries() if query.isActive])
        for retried in embedding:
            retried.look()
        if not trainer.is_alive():
            failures.append(f"{trainer.name} has ended")
    for failure in failures:
        log.error("%s", failure)
    stopping.set()
    running = all_queries()
    stop(spark, running)
    housekeeping.finish(running)
    trainer.join(_TRAINING_ENDS_S)
    return 1 if failures else 0


def active(
    queries: Iterable[StreamingQuery], retried: Iterable[RetriedQuery]
) -> list[StreamingQuery]:
    """The queries, with those of ``retried`` that run."""
    return [*queries, *(one.query for one in retried if one.query is not None)]


def wait_for_topology(settings: Settings, graph: Graph, stopping: threading.Event) -> bool:
    """Return once the broker has what the Spark stages touch; False if told to stop before.

    Other topics are not shown to a user who may not read them.

    A session takes so long to start that it is started beside the broker.
    """
    admin = admin_client(settings.kafka_bootstrap_servers, log_level=0)
    stages = [stage for stage in graph.stages.values() if stage.runner == "spark"]
    needed = {name for one in stages for name in (*one.consumes, *one.broadcast, *one.produces)}
    while not stopping.is_set():
        try:
            if needed <= admin.list_topics(timeout=2).topics.keys():
                registry = open_registry(settings)
                for subject in declared_subjects(graph):
                    registry.id_of(subject)
                return True
        except (KafkaException, KeyError, RequestException):
            log.debug("waiting for the topology to be applied", exc_info=True)
        stopping.wait(0.5)
    return False


def lower_priority() -> None:
    """Let live stages go first: raise the niceness of this process and all of its children.

    It is done once the first results are there, which everybody waits for.
    """
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error, OSError):
            # on Linux a priority is a thread's; elsewhere the first one stands for the process
            threads = process.threads() if sys.platform == "linux" else process.threads()[:1]
            for thread in threads:
                os.setpriority(os.PRIO_PROCESS, thread.id, _NICE)


def stop(spark: SparkSession, queries: list[StreamingQuery]) -> None:
    """End every query, between micro-batches where one ends soon.

    What a micro-batch has not committed is repeated at the next start.
    """
    spark.sparkContext.setLogLevel("OFF")  # an interrupted micro-batch is no error now
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    deadline = time.monotonic() + _BATCH_ENDS_S
    for query in queries:
        while query.isActive and query.status["isTriggerActive"] and time.monotonic() < deadline:
            time.sleep(0.1)
        query.stop()
    spark.sparkContext.cancelAllJobs()  # a training is told, and says that it was interrupted


def main() -> int:
    """The process: session, stages, signals."""
    settings = get_settings()
    set_up_logs(settings, "spark")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    with refusals_as_sentences():
        require_access(settings)
    stopping = threading.Event()
    started = time.monotonic()
    model = Model(settings)
    spark = build_session(settings)
    log.info("Spark session after %.1f s", time.monotonic() - started)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        return run(spark, settings, model, stopping)
    except (ForeignTableError, GapError) as error:
        log.error("%s", error)
        return 1
    finally:
        spark.stop()


if __name__ == "__main__":
    sys.exit(main())
