"""What a running instance takes for each event: bytes on disk by store, cores by process, memory.

Measured on the instance of PODSTREAM_HOME between two looks, `--seconds` apart, after `--warm-up`
seconds: how much each topic, table and database has grown, divided by the events that came
meanwhile, and the CPU time of each process. Topics that are compacted or purged grow for a while
and then stand still, so the sum of a few minutes is above that of a day. Prints JSON.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import machine
import psutil

from streams.cli.local.supervise import Supervisor
from streams.kafka.log_reader import LogReader
from streams.operations.disk import allocated
from topology.settings import Settings, get_settings
from topology.topics.events import USER_EVENTS


def main() -> None:
    """Look twice and print the difference."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--warm-up", type=float, default=60.0)
    options = parser.parse_args()
    settings = get_settings()
    time.sleep(options.warm_up)
    before, first = look(settings), time.monotonic()
    time.sleep(options.seconds)
    after, last = look(settings), time.monotonic()
    events = max(1, after["events"] - before["events"])
    seconds = last - first
    grown = {name: size - before["bytes"].get(name, 0) for name, size in after["bytes"].items()}
    cores = {
        name: (used - before["cpu_s"].get(name, 0.0)) / seconds
        for name, used in after["cpu_s"].items()
    }
    machine.report(
        "footprint",
        {
            "events_per_second": round(events / seconds, 1),
            "bytes_an_event": _descending({name: round(b / events) for name, b in grown.items()}),
            "bytes_an_event_together": round(sum(grown.values()) / events),
            "megabytes": round(sum(after["bytes"].values()) / 1e6, 1),
            "cores": _descending({name: round(used, 3) for name, used in cores.items()}),
            "cores_together": round(sum(cores.values()), 2),
            "memory_gib": round(after["memory"] / 2**30, 2),
        },
    )


def look(settings: Settings) -> dict[str, Any]:
    """Bytes by store, CPU seconds by process, memory and events, as they are now."""
    used, memory = dict[str, float](), 0
    for process in Supervisor(settings.podstream_home).processes():
        if process.pid:
            used[process.name], resident = _used(process.pid)
            memory += resident
    with LogReader(settings.kafka_bootstrap_servers) as logs:
        events = sum(logs.ends(USER_EVENTS.name).values())
    return {
        "bytes": stores(settings.podstream_home),
        "cpu_s": used,
        "memory": memory,
        "events": events,
    }


def stores(home: Path) -> dict[str, int]:
    """Bytes on disk of each topic, each Delta table and each other folder of a home."""
    sizes = dict[str, int]()
    for entry in home.iterdir():
        if entry.name == "kafka":
            for partition in (entry / "data").iterdir():
                name = f"kafka/{partition.name.rpartition('-')[0] or 'others'}"
                sizes[name] = sizes.get(name, 0) + allocated(partition)
        elif entry.name == "delta":
            sizes |= {f"delta/{table.name}": allocated(table) for table in entry.iterdir()}
        elif entry.is_dir():
            sizes[entry.name] = allocated(entry)
    return sizes


def _used(pid: int) -> tuple[float, int]:
    """CPU seconds and resident bytes of a process and all that it started and that still runs."""
    seconds, resident = 0.0, 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            times = process.cpu_times()
            seconds += times.user + times.system
            resident += process.memory_info().rss
    except psutil.NoSuchProcess:
        return seconds, resident
    return seconds, resident


def _descending(figures: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(figures.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    main()
