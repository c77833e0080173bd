"""Runs what else a user could take for the same minutes, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from live_path.cluster import BenchmarkError, Cluster, say

from schemas import files

SCRIPTS = Path(__file__).with_name("peers")
TIMEOUT_S = 300.0
INSTALL_TIMEOUT_S = 600.0
PEERS = {"quixstreams": "quixstreams==3.28.1", "bytewax": "bytewax==0.21.1"}
"""Installed for the run, in environments of their own: they pin other versions than we do."""

SHARED = ("fastavro==1.13.1", "confluent-kafka==2.12.2")


def limits(cluster: Cluster, topic: str, events: int) -> dict[str, Any]:
    """A loop that only consumes, and one that also decodes each event with fastavro."""
    return {
        how: run(sys.executable, cluster, "confluent_loop", topic, events, how)
        for how in ("consume", "decode")
    }


def plain_faust(cluster: Cluster, topic: str, events: int) -> dict[str, Any]:
    """The events counted by a plain Faust agent with a table."""
    return run(sys.executable, cluster, "faust_agent", topic, events)


def installed(cluster: Cluster, name: str, topic: str, events: int) -> dict[str, Any]:
    """A peer in a new environment; the reason, if it could not be installed."""
    home = cluster.settings.podstream_home / name
    say(f"{name}: installing {PEERS[name]}")
    venv.create(home / "venv", with_pip=True)
    python = str(home / "venv" / "bin" / "python")
    command = [python, "-m", "pip", "install", "-q", PEERS[name], *SHARED]
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S
        )
    except subprocess.CalledProcessError as error:
        return {"package": PEERS[name], "error": error.stderr[-500:]}
    except subprocess.TimeoutExpired:
        return {"package": PEERS[name], "error": f"pip took over {INSTALL_TIMEOUT_S:.0f} s"}
    state = str(home / "state")
    figures = run(python, cluster, f"{name}_windows", topic, events, state)
    return {"package": PEERS[name], **figures}


def run(
    python: str, cluster: Cluster, script: str, topic: str, events: int, *more: str
) -> dict[str, Any]:
    """The figures that a peer prints; BenchmarkError if it fails or has not counted every event."""
    say(f"peer: {script} {' '.join(more)}")
    schema = files.FOLDER / "user_event.v2.avsc"
    path = SCRIPTS / f"{script}.py"
    command: Sequence[str] = [
        python, str(path), cluster.bootstrap, topic, str(events), str(schema), *more,
    ]  # fmt: skip
    log = cluster.settings.podstream_home / f"{script}.log"
    with log.open("wb") as errors:
        try:
            done = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=TIMEOUT_S,
                cwd=cluster.settings.podstream_home,
            )
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"{script} did not end: {log.read_text()[-2000:]}") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise BenchmarkError(f"{script} failed: {done.stdout[-500:]} {log.read_text()[-2000:]}")
    figures: dict[str, Any] = json.loads(lines[-1])
    if figures["counted"] not in (None, events):
        raise BenchmarkError(f"{script} counted {figures['counted']} of {events} events")
    return figures
