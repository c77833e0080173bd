"""Metrics of `topology.monitoring.metrics` as prometheus_client keeps them, one registry a process.

What is asked for twice is made once. Nothing is computed before somebody asks for the metrics,
except what is counted as work is done, a batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from topology.monitoring.metrics import PROCESS_INFO, PROCESS_MEMORY
from topology.monitoring.model import Metric

Family = CounterMetricFamily | GaugeMetricFamily
Labels = TypeVar("Labels", bound=tuple[str, ...])
"""The values of a metric's labels, in their order."""

REGISTRY = CollectorRegistry()
"""What this process tells."""


@cache
def counter(metric: Metric) -> Counter:
    """A counter that is raised as work is done."""
    return Counter(metric.name, metric.doc, metric.labels, registry=REGISTRY)


@cache
def histogram(metric: Metric) -> Histogram:
    """A histogram that is given each observation."""
    return Histogram(
        metric.name, metric.doc, metric.labels, buckets=metric.buckets, registry=REGISTRY
    )


def family(metric: Metric, values: Mapping[Labels, float]) -> Family:
    """A metric with the values that it has now, by labels."""
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    made = kind(metric.name, metric.doc, labels=metric.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made


class Measured(Collector):
    """Metrics that are measured when somebody asks for them."""

    def __init__(self, measure: Callable[[], Iterable[Family]]):
        self._measure = measure

    def describe(self) -> Iterable[Family]:
        """Nothing: registering must not measure."""
        return ()

    def collect(self) -> Iterable[Family]:
        """The metrics as they are now."""
        return self._measure()


def measured(
    measure: Callable[[], Iterable[Family]], registry: CollectorRegistry = REGISTRY
) -> None:
    """Have ``measure`` called whenever somebody asks for the metrics, from another thread."""
    registry.register(Measured(measure))


def tell_process(
    name: str, *, children: bool = False, registry: CollectorRegistry = REGISTRY
) -> None:
    """Have the process tell what it is, and what it and its ``children`` take of memory."""
    ProcessCollector(registry=registry)
    measured(
        lambda: (
            family(PROCESS_INFO, {(name, release()): 1}),
            family(PROCESS_MEMORY, {(name,): memory_bytes(children=children)}),
        ),
        registry,
    )


def memory_bytes(pid: int | None = None, *, children: bool = True) -> int:
    """Resident memory of a process (this one for None) and all its descendants, in bytes; 0 if it
    is gone."""
    try:
        parent = psutil.Process(pid)
        # looks through every process of the machine
        processes = [parent, *(parent.children(recursive=True) if children else ())]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def release() -> str:
    """The version that is installed; empty for a tree that is not."""
    try:
        return version("podstream")
    except PackageNotFoundError:
        return ""
