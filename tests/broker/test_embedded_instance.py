"""An instance from the command line: up, status, env, a kill, down, and up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.waiting import wait_until
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.mongo]

PODSTREAM = [sys.executable, "-m", "streams.cli.main"]
SERVICES = ["--only", "broker", "--only", "mongo"]

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    spelled = {(field.alias or name).upper() for name, field in Settings.model_fields.items()}
    kept = {key: value for key, value in os.environ.items() if key not in spelled}
    return {**kept, "PODSTREAM_HOME": str(tmp_path / "home")}


@pytest.fixture
def podstream(environment: dict[str, str]) -> Iterator[Command]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PODSTREAM, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    yield run
    run("down")


def _status(podstream: Command) -> dict[str, Any]:
    shown = podstream("status", "--json")
    assert shown.returncode == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def _processes(podstream: Command) -> dict[str, dict[str, Any]]:
    return {process["name"]: process for process in _status(podstream)["processes"]}


def test_up_status_kill_down_and_up_again(podstream: Command) -> None:
    assert podstream("status").returncode == 1
    assert podstream("down").stdout.startswith("Nothing runs")

    first = podstream("up", "--detach", "--ports", "auto", *SERVICES)
    assert first.returncode == 0, first.stdout + first.stderr
    again = podstream("up", *SERVICES)
    assert again.returncode == 1
    assert "is running already" in again.stderr

    status = _status(podstream)
    assert status.keys() == {
        "processes",
        "stages",
        "stores",
        "dead_letters",
        "late_events",
        "hosts",
        "noted",
        "arrivals",
        "failures",
        "models",
        "disk",
    }
    assert all(isinstance(stage["lag"], int) for stage in status["stages"])
    assert all(isinstance(store["rows"], int) for store in status["stores"])
    before = _processes(podstream)
    assert before["broker"]["rss_bytes"] > 50_000_000
    assert before["mongo"]["rss_bytes"] > 10_000_000
    assert before["spark"]["state"] == "STOPPED"

    addresses = json.loads(podstream("env", "--json").stdout)
    with MongoClient[dict[str, Any]](addresses["MONGODB_URI"]) as client:
        client[addresses["MONGODB_DATABASE"]].episodes.insert_one({"_id": "pi:1"})
    exported = podstream("env").stdout
    assert f"export KAFKA_BOOTSTRAP_SERVERS={addresses['KAFKA_BOOTSTRAP_SERVERS']}\n" in exported

    os.kill(before["mongo"]["pid"], signal.SIGTERM)  # a clean end nobody asked for

    def started_again() -> bool:
        mongo = _processes(podstream)["mongo"] if _answers(addresses["MONGODB_URI"]) else before
        return mongo.get("state") == "RUNNING" and mongo["pid"] != before["mongo"]["pid"]

    wait_until(started_again, 60, "a new start of mongo")

    stopped = podstream("down")
    assert stopped.returncode == 0, stopped.stderr
    port = addresses["PODSTREAM_PORT_BASE"]
    second = podstream("up", "--detach", "--ports", port, *SERVICES)
    assert second.returncode == 0, second.stdout + second.stderr
    rows = {s["name"]: s["rows"] for s in _status(podstream)["stores"] if s["kind"] == "mongodb"}
    assert rows["episodes"] == 1


def _answers(uri: str) -> bool:
    from streams.cli.local.mongo import MongoError, wait_for_mongo

    try:
        wait_for_mongo(uri, 2.0)
    except MongoError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_foreground_stops_everything_on_a_signal(
    number: signal.Signals, environment: dict[str, str], podstream: Command
) -> None:
    arguments = [*PODSTREAM, "up", "--ports", "auto", "--only", "mongo"]
    with subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, text=True
    ) as foreground:
        assert foreground.stdout is not None
        for line in foreground.stdout:
            if "Stop it with Ctrl-C" in line:
                break
        foreground.send_signal(number)
        rest = foreground.stdout.read()
    assert foreground.returncode == 0
    assert "Everything has stopped." in rest
    assert podstream("down").stdout.startswith("Nothing runs")
