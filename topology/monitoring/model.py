"""The words in which metrics and alerts are declared, as frozen data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

PREFIX = "podstream_"

Kind = Literal["counter", "gauge", "histogram"]

LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)
"""Seconds, about the promises: 250 ms and 1 s from a play to what it changes."""

HANDLING_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
"""Seconds that a handler takes for what it was given."""


@dataclass(frozen=True)
class Metric:
    """One metric, under the name that Prometheus shows.

    ``unit`` is a base unit (``seconds``, ``bytes``) or says what is counted. ``subject`` is the row
    of the dashboard that shows it. ``buckets`` are those of a histogram, in its unit.
    """

    name: str
    kind: Kind
    doc: str
    unit: str
    subject: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def query(self) -> str:
        """PromQL for what the dashboard shows: rates of counters, p99 of histograms."""
        by = f" by ({', '.join(self.labels)})" if self.labels else ""
        if self.kind == "counter":
            return f"sum{by} (rate({self.name}[5m]))"
        if self.kind == "histogram":
            grouped = ", ".join(("le", *self.labels))
            return f"histogram_quantile(0.99, sum by ({grouped}) (rate({self.name}_bucket[5m])))"
        return f"max{by} ({self.name})"


@dataclass(frozen=True)
class Alert:
    """One alert rule.

    ``lasts`` is how long ``expression`` has to hold, as Prometheus writes it. ``summary`` may name
    labels as ``{{ $labels.stage }}``. ``action`` says what to do, in Markdown of `docs/`.
    """

    name: str
    expression: str
    lasts: str
    severity: Literal["critical", "warning", "info"]
    summary: str
    action: str

    def metrics(self) -> frozenset[str]:
        """Names of the metrics that the expression reads, without the suffixes of histograms."""
        found = re.findall(rf"\b{PREFIX}\w+", self.expression)
        return frozenset(re.sub("_(bucket|sum|count)$", "", name) for name in found)
