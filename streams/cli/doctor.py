"""Looks at the machine before anything is started: what is there, what is not, what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from jobs.spark_jars import jar_root, jars_ready
from streams.cli.local.ports import is_free
from streams.cli.local.programs import ports_needed
from streams.cli.local.supervise import Supervisor
from streams.operations import disk
from topology.graph import build_graph
from topology.java import JavaError, java_version, require_java
from topology.settings import Settings

GIBIBYTE = 2**30
MINIMUM_PYTHON = (3, 11)
FEWEST_DAYS = 7
WANTED_MEMORY_BYTES = 5 * GIBIBYTE


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``level`` is ``ok``, ``warning`` (it may run) or ``error``."""

    subject: str
    level: str
    found: str
    advice: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Look at everything an instance of this home needs."""
    checks: tuple[Callable[[Settings], Finding], ...] = (
        check_python,
        check_java,
        check_jars,
        check_ports,
        check_memory,
        check_disk,
    )
    return [check(settings) for check in checks]


def check_python(settings: Settings) -> Finding:
    """Whether this Python is new enough."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info >= MINIMUM_PYTHON:
        return Finding("Python", "ok", version)
    return Finding("Python", "error", version, "Install Python 3.11 or newer, then `make setup`.")


def check_java(settings: Settings) -> Finding:
    """Whether there is a Java that runs Kafka and Spark."""
    try:
        java = require_java()
    except JavaError as error:
        return Finding("Java", "error", "not usable", str(error))
    return Finding("Java", "ok", f"{java_version(java)} ({java})")


def check_jars(settings: Settings) -> Finding:
    """Whether the jars of the broker, of Spark and of MongoDB have been fetched."""
    if jars_ready():
        return Finding("Jars", "ok", str(jar_root()))
    return Finding("Jars", "error", f"not in {jar_root()}", "Run `make setup` (needs a network).")


def check_ports(settings: Settings) -> Finding:
    """Whether every port of the instance is free, or in use by the instance itself."""
    if Supervisor(settings.podstream_home).running():
        return Finding("Ports", "ok", "in use by the running instance")
    needed = ports_needed(settings, build_graph(settings.event_partitions), demo=True)
    taken = sorted(port for port in needed if not is_free(port))
    if not taken:
        return Finding("Ports", "ok", f"{min(needed)} to {max(needed)} are free")
    return Finding(
        "Ports",
        "error",
        f"taken: {', '.join(map(str, taken))}",
        "Stop what listens there, or use `podstream up --ports auto` or PODSTREAM_PORT_BASE.",
    )


def check_memory(settings: Settings) -> Finding:
    """Whether as much memory is available as the demo takes."""
    memory = psutil.virtual_memory()
    found = f"{memory.available / GIBIBYTE:.1f} of {memory.total / GIBIBYTE:.1f} GiB available"
    if memory.available >= WANTED_MEMORY_BYTES:
        return Finding("Memory", "ok", found)
    return Finding(
        "Memory", "warning", found, "The demo takes about 5 GiB: close something, or expect swap."
    )


def check_disk(settings: Settings) -> Finding:
    """Whether there is room where the instance keeps its data, and for how long."""
    measured = disk.measure(settings)
    found = f"{measured.free / GIBIBYTE:.1f} GiB free in {_short(settings.podstream_home)}"
    if (short := disk.shortage(settings)) is not None:
        return Finding("Disk", "error", found, short)
    if (days := measured.days_left) is None:
        return Finding("Disk", "ok", found)
    growth = (measured.growth_per_hour or 0) / 2**20
    lasts = f"{found}; at {growth:.0f} MiB an hour it lasts {_days(days)}"
    if days >= FEWEST_DAYS:
        return Finding("Disk", "ok", lasts)
    return Finding("Disk", "warning", lasts, "Move PODSTREAM_HOME to a larger disk before that.")


def _days(days: float) -> str:
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours"


def _short(path: Path) -> str:
    text, home = str(path), str(Path.home())
    return "~" + text[len(home) :] if home != "/" and text.startswith(home) else text
