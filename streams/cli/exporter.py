"""Tells Prometheus what `podstream status` measures: measured when it asks, and only then.

Each part is measured beside the others. One that does not answer in time is told as away, and the
rest is there all the same; the next scrape waits for the answer that is under way, and asks no
second time.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC

from streams.cli import status
from streams.cli.log_view import LogView
from streams.monitoring.instruments import Family, family, measured
from streams.monitoring.server import serve
from streams.operations import disk
from streams.operations.arrivals import measure_arrivals
from topology.monitoring import metrics
from topology.settings import Settings

log = logging.getLogger(__name__)

PROCESS = "exporter"
ANSWER_S = 8.0
"""Longest that a scrape waits: Prometheus gives up after ten seconds unless told otherwise."""

Part = Callable[[Settings], list[Family]]


def measure_log(settings: Settings) -> list[Family]:
    """What the broker knows. KafkaException if it does not answer."""
    log_view = LogView(settings.kafka_bootstrap_servers, status.running_graph(settings))
    arrivals = measure_arrivals(settings, ANSWER_S)
    lags = {(s.name,): s.lag for s in status.stage_lags(log_view, settings) if s.lag is not None}
    dead = {(letters.topic,): letters.count for letters in log_view.dead_letters()}
    strays = {(client,): number for client, number in arrivals.handed_over.items()}
    return [
        family(metrics.LAG, lags),
        family(metrics.DEAD_LETTERS, dead),
        family(metrics.REPEATED_EVENTS, {(): arrivals.repeated}),
        family(metrics.STRAY_EVENTS, strays),
    ]


def measure_mongodb(settings: Settings) -> list[Family]:
    """What MongoDB holds. PyMongoError if it does not answer."""
    progress = status.counting_progress(settings)
    watermarks = {
        (str(document["source_partition"]),): document["watermark"].replace(tzinfo=UTC).timestamp()
        for document in progress
    }
    rows = status.mongo_rows(settings, status.running_graph(settings))
    generations = status.table_generations(settings)
    failures = status.stage_failures(settings)
    refused = sum(one.state == "refused" for one in status.model_status(settings))
    return [
        family(metrics.LATE_EVENTS, {(): sum(document["late"] for document in progress)}),
        family(metrics.COUNTED_EVENTS, {(): sum(document["events"] for document in progress)}),
        family(metrics.WATERMARK, watermarks),
        family(metrics.STORE_ROWS, {(store.name,): store.rows for store in rows}),
        family(metrics.TABLE_GENERATION, {(name,): n for name, n in generations.items()}),
        family(metrics.GENERATIONS_REFUSED, {(): refused}),
        family(metrics.STAGE_FAILING, {(one.stage,): one.attempts for one in failures}),
    ]


def measure_disk(settings: Settings) -> list[Family]:
    """What is on the disk of this machine."""
    sizes = disk.store_bytes(settings)
    return [
        family(metrics.STORE_BYTES, {(store,): size for store, size in sizes.items()}),
        family(metrics.DISK_FREE, {(): disk.free_bytes(settings)}),
        family(metrics.DISK_RESERVE, {(): settings.disk_reserve}),
    ]


def measure_processes(settings: Settings) -> list[Family]:
    """The processes that a supervisor keeps on this machine, if there is one."""
    found = status.process_status(settings)
    return [
        family(metrics.SUPERVISED_UP, {(p.name,): p.state == "RUNNING" for p in found}),
        family(metrics.SUPERVISED_MEMORY, {(p.name,): p.rss_bytes for p in found}),
    ]


PARTS: dict[str, Part] = {
    "broker": measure_log,
    "mongodb": measure_mongodb,
    "disk": measure_disk,
    "processes": measure_processes,
}


class Exporter:
    """Measures each of the parts, at most once at a time."""

    def __init__(self, settings: Settings, parts: Mapping[str, Part], answer_s: float = ANSWER_S):
        self._settings = settings
        self._parts = parts
        self._answer_s = answer_s
        self._pool = ThreadPoolExecutor(len(parts), thread_name_prefix="measure")
        self._asked: dict[str, Future[list[Family]]] = {}

    def families(self) -> Iterable[Family]:
        """What every part that answers says, and which do."""
        for name, part in self._parts.items():
            if name not in self._asked:
                self._asked[name] = self._pool.submit(part, self._settings)
        wait(self._asked.values(), self._answer_s)
        answered: dict[tuple[str, ...], float] = {}
        for name in self._parts:
            found = self._answer(name)
            answered[(name,)] = found is not None
            yield from found or ()
        yield family(metrics.PART_UP, answered)

    def _answer(self, name: str) -> list[Family] | None:
        """What a part says; None if it does not, or not yet."""
        if not self._asked[name].done():
            return None
        asked = self._asked.pop(name)
        if (error := asked.exception()) is not None:
            log.warning("%s could not be measured: %s", name, error or type(error).__name__)
            return None
        return asked.result()


def run(settings: Settings) -> None:
    """Answer until SIGTERM or SIGINT. OSError if the port is taken."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    measured(Exporter(settings, PARTS).families)
    serve(settings, PROCESS)
    stop.wait()
