"""What every peer is told on its command line, and how it says what it did."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro

BOOTSTRAP, TOPIC, EVENTS, SCHEMA = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
MINUTE_MS = 60_000
_FRAME_SIZE = 5


def decoder() -> Callable[[bytes], dict[str, Any]]:
    """Decodes a framed event; times are milliseconds."""
    written = json.loads(Path(SCHEMA).read_text())
    for field in written["fields"]:
        if isinstance(field["type"], dict):
            field["type"].pop("logicalType", None)
    schema = fastavro.parse_schema(written)

    def decode(value: bytes) -> dict[str, Any]:
        return fastavro.schemaless_reader(BytesIO(value[_FRAME_SIZE:]), schema, None)  # type: ignore[return-value]

    return decode


class Outcome:
    """Counts events from the first one on, and reports after the last."""

    def __init__(self) -> None:
        self._events = 0
        self._started = self._cpu = 0.0

    def start(self) -> None:
        """The first event is there; later calls change nothing."""
        if not self._started:
            self._started, self._cpu = time.perf_counter(), time.process_time()

    def note(self, events: int = 1) -> bool:
        """Whether that was the last one."""
        self.start()
        self._events += events
        return self._events >= EVENTS

    def report(self, counted: int | None) -> None:
        """Print the JSON line; ``counted`` is the sum of all counters, None if there are none."""
        seconds = time.perf_counter() - self._started
        outcome = {
            "events": self._events,
            "counted": counted,
            "seconds": round(seconds, 3),
            "events_per_s": round(self._events / seconds),
            "cpu_us_per_event": round((time.process_time() - self._cpu) / self._events * 1e6, 2),
            "peak_rss_mib": _peak_rss_mib(),
        }
        print(json.dumps(outcome), flush=True)

    def report_and_end(self, counted: int | None) -> None:
        """The same from inside a framework that would go on."""
        self.report(counted)
        os._exit(0)


def _peak_rss_mib() -> int:
    # getrusage would tell the peak of whoever forked this process.
    status = Path("/proc/self/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(peak) / 1024)
