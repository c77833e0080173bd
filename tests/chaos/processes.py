"""The processes of the event path, started, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streams.cli.local.instance import variables
from streams.cli.local.ports import free_ports
from tests.chaos.river import TRACKERS
from tests.paths import ROOT
from topology.settings import Settings


class Processes:
    """Processes by a name of the caller's choice; each appends to ``NAME.log`` in the home."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = settings.podstream_home
        self._running: dict[str, subprocess.Popen[Any]] = {}

    def start_batcher(self, name: str) -> None:
        self._start(name, ["streams.events.batch_events"])

    def start_worker(self, name: str, stages: Sequence[str] = TRACKERS) -> None:
        """A Faust worker of its own folder; a name used before finds its folder again."""
        (port,) = free_ports(1)
        options = ["--datadir", str(self._home / name)]
        options += ["worker", "--web-port", str(port), "-l", "warn"]
        self._start(name, ["faust", "-A", "streams.app", *options], stages)

    def start_spark(self, name: str) -> None:
        """The Spark application."""
        self._start(name, ["jobs.application"])

    def import_events(self, name: str, path: Path) -> subprocess.Popen[Any]:
        """`podstream import events` of a file, which ends by itself."""
        return self._popen(name, ["streams.cli.main", "import", "events", str(path)])

    def _start(self, name: str, module: list[str], stages: Sequence[str] = ()) -> None:
        self._running[name] = self._popen(name, module, stages)

    def _popen(
        self, name: str, module: list[str], stages: Sequence[str] = ()
    ) -> subprocess.Popen[Any]:
        environment = {
            **os.environ,
            **variables(self._settings),
            "PODSTREAM_STAGES": ",".join(stages),
        }
        with (self._home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *module],
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def check(self) -> None:
        """AssertionError, with the end of its log, if a process ended without being told to."""
        for name, process in list(self._running.items()):
            assert process.poll() is None, f"{name} ended by itself: {self.log(name)[-3000:]}"

    def ended(self, name: str, timeout_s: float) -> int:
        """Wait until a process ends by itself; its exit status."""
        return self._running.pop(name).wait(timeout_s)

    def end(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a living process; its exit status."""
        self.check()
        process = self._running.pop(name)
        process.send_signal(number)
        return process.wait(60)

    def log(self, name: str) -> str:
        """What a process has logged, in all its lives."""
        return (self._home / f"{name}.log").read_text(errors="replace")

    def kill_all(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()
        self._running.clear()
