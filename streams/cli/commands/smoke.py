"""`podstream smoke`: the headless whole, from nothing to live recommendations, with a report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from topology.settings import Settings

LOOK_EVERY_S = 2.0
"""What a look costs, the platform would use to get there."""


def register(app: typer.Typer) -> None:
    """Add `smoke`."""
    app.command()(smoke)


def smoke(
    home: Annotated[
        Path | None, typer.Option(help="Where the instance lives; default: a temporary folder.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for everything.")] = 600.0,
    keep_running: Annotated[
        bool, typer.Option(help="Leave the instance running for whoever comes next.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Start everything in a home of its own, wait for what must come, report, stop."""
    place = home or Path(tempfile.mkdtemp(prefix="podstream-smoke-"))
    log = sys.stderr if as_json else sys.stdout
    environment = {**os.environ, "PODSTREAM_HOME": str(place)}
    started = time.monotonic()
    report: dict[str, Any] = {"home": str(place), "seconds": {}, "ok": False}
    try:
        command = [
            sys.executable,
            "-m",
            "streams.cli.main",
            "up",
            "--demo",
            "--detach",
            "--ports",
            "auto",
        ]
        if subprocess.run(command, env=environment, stdout=log, check=False).returncode:
            raise typer.Exit(1)
        report["seconds"]["up"] = round(time.monotonic() - started, 1)
        report["missing"] = _wait(environment, started, timeout, report, log)
        report["ok"] = not report["missing"]
        report["status"] = _status(environment)
    finally:
        if not keep_running:
            down = [sys.executable, "-m", "streams.cli.main", "down"]
            subprocess.run(down, env=environment, stdout=log, check=False)
            if home is None and report["ok"]:
                shutil.rmtree(place, ignore_errors=True)
        if as_json:
            print(json.dumps(report, indent=2))
        else:
            _print(report)
    raise typer.Exit(0 if report["ok"] else 1)


def _status(environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "streams.cli.main", "status", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    status: dict[str, Any] = json.loads(done.stdout)
    return status


def _wait(
    environment: dict[str, str], started: float, timeout: float, report: dict[str, Any], log: Any
) -> list[str]:
    """Wait until every condition has been met once; return what never came."""
    from streams.cli.status import delta_rows, mongo_rows
    from topology.graph import get_graph
    from topology.settings import Settings, instance_file

    graph = get_graph()
    home = Path(environment["PODSTREAM_HOME"])
    settings = Settings(podstream_home=home, _env_file=instance_file(home))
    waiting = {f"rows in delta {t.name}" for t in graph.delta_tables.values() if not t.eventual}
    waiting |= {f"rows in mongodb {c.name}" for c in graph.collections.values() if not c.eventual}
    waiting.add("ALS in final_recommendations")
    while waiting and time.monotonic() - started < timeout:
        stores = (*delta_rows(settings, graph), *mongo_rows(settings, graph))
        arrived = {f"rows in {store.kind} {store.name}" for store in stores if store.rows}
        if _has_als(settings):
            arrived.add("ALS in final_recommendations")
        for condition in sorted(waiting & arrived):
            seconds = round(time.monotonic() - started, 1)
            report["seconds"][condition] = seconds
            print(f"  {seconds:6.1f} s  {condition}", file=log, flush=True)
        waiting -= arrived
        if waiting:
            time.sleep(LOOK_EVERY_S)
    return sorted(waiting)


def _has_als(settings: Settings) -> bool:
    """Whether a listener has a recommendation that a trained ALS generation had a part in."""
    from pymongo import MongoClient

    from streams.cli.showcase import newest_lists

    client: MongoClient[dict[str, Any]] = MongoClient(settings.mongodb_uri.get_secret_value())
    with client:
        return any(
            item["parts"].get("als", 0.0) > 0.0
            for document in newest_lists(client[settings.mongodb_database])
            for item in document.get("items", ())
        )


def _print(report: dict[str, Any]) -> None:
    for process in report.get("status", {}).get("processes", []):
        megabytes = (process["rss_bytes"] or 0) / 1e6
        print(f"  {process['name']:<24} {process['state']:<10} {megabytes:8.0f} MB")
    for store in report.get("status", {}).get("stores", []):
        print(f"  {store['name']:<24} {store['rows']:>10} rows")
    for dead in report.get("status", {}).get("dead_letters", []):
        if dead["count"]:
            print(f"  {dead['topic']:<24} {dead['count']:>10} dead letters")
    for condition in report.get("missing", []):
        print(f"  never came: {condition}")
    print("smoke: ok" if report["ok"] else f"smoke: failed; the logs are in {report['home']}/logs")
