"""`python -m jobs.application`: the one Spark application, with every Spark stage in it.

It ends cleanly (exit 0) on SIGTERM or SIGINT: micro-batches in progress are finished or left to
be repeated. If a query or a background task dies, it is logged, everything is stopped and the exit
code is 1, so that the supervisor starts it anew from the checkpoints.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time

from pyspark.sql import SparkSession
from pyspark.sql.streaming import StreamingQuery

from jobs import embed_transcripts, train_als, write_delta
from jobs.kafka_source import failed_to_report
from jobs.session import build_session
from topology.graph import get_graph
from topology.settings import Settings, get_settings

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_BATCH_ENDS_S = 8.0
_TRAINING_ENDS_S = 5.0
"""How long a stop waits for a training: what it had not published is trained anew."""


def run(spark: SparkSession, settings: Settings, stopping: threading.Event) -> int:
    """Run every stage until ``stopping`` is set (0) or one of them dies (1)."""
    graph = get_graph()
    launches = write_delta.start(spark, settings, graph)
    launches += embed_transcripts.start(spark, settings, graph, stopping)
    queries = [launch() for launch in launches]
    trainer = train_als.start(spark, settings, graph, stopping)
    log.info("running: %s, %s", ", ".join(query.name for query in queries), trainer.name)
    failures: list[str] = []
    while not failures and not stopping.wait(_LOOK_EVERY_S):
        for place, query in enumerate(queries):
            if not query.isActive and failed_to_report(query):
                log.warning("%s has repeated its last micro-batch and goes on", query.name)
                queries[place] = launches[place]()
        failures = [f"{q.name}: {q.exception()}" for q in queries if not q.isActive]
        if not trainer.is_alive():
            failures.append(f"{trainer.name} has ended")
    for failure in failures:
        log.error("%s", failure)
    stopping.set()
    stop(spark, queries)
    trainer.join(_TRAINING_ENDS_S)
    return 1 if failures else 0


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


def main() -> int:
    """The process: session, stages, signals."""
    settings = get_settings()
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("py4j").setLevel(logging.WARNING)
    stopping = threading.Event()
    started = time.monotonic()
    spark = build_session(settings)
    log.info("Spark session after %.1f s", time.monotonic() - started)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        return run(spark, settings, stopping)
    finally:
        spark.stop()


if __name__ == "__main__":
    sys.exit(main())
