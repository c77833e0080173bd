"""A second `up`, a third, and the kill of what looks after the processes: every table is exact.

An instance of the command line counts what listeners as bad as real ones write. Meanwhile it is
brought up twice more at once, a process is killed, which the supervisor starts again, and then the
supervisor itself; the next `up` stops what that left, the broker too, and starts all anew.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from streams.cli.local.instance import variables
from streams.cli.local.ports import free_range
from streams.cli.local.supervise import Supervisor
from tests.chaos.river import PATIENCE_S, Log, Writer, wait_until_settled, what_happened
from tests.paths import ROOT
from tests.waiting import wait_until
from topology.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.mongo, pytest.mark.timeout(600)]

PODSTREAM = [sys.executable, "-m", "streams.cli.main"]
ONLY = [word for name in ("broker", "mongo", "batch_events", "track") for word in ("--only", name)]
PAST_S = 30.0
LIVE_TICKS = 20

Command = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        podstream_home=tmp_path / "home",
        podstream_port_base=free_range(40),
        event_partitions=2,
        allowed_lateness_s=900,
        dedup_window=3000,
    )


@pytest.fixture
def podstream(settings: Settings) -> Iterator[Command]:
    environment = {**os.environ, **variables(settings)}

    def begin(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PODSTREAM, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    yield begin
    begin("down").communicate(timeout=PATIENCE_S)


def told(command: subprocess.Popen[str]) -> str:
    """What a command said, once it has ended, its lines joined."""
    said, _ = command.communicate(timeout=PATIENCE_S)
    return " ".join(said.split())


def test_every_table_is_exact_after_ups_and_a_killed_supervisor(
    settings: Settings, podstream: Command
) -> None:
    home = settings.podstream_home
    first = podstream("up", "--detach", *ONLY)
    said = told(first)
    assert first.returncode == 0, said
    writer = Writer(settings, PAST_S)
    writer.start()
    log = Log(settings)
    wait_until(lambda: log.messages("engagement-windows"), PATIENCE_S, "the first windows")

    two = [podstream("up", "--detach", *ONLY) for _ in range(2)]
    said = " ".join(map(told, two))
    assert 0 in {one.returncode for one in two}, said
    assert all(one.returncode == 0 for one in two) or "Another `podstream up`" in said, said
    foreground = podstream("up", *ONLY)
    assert "is running already" in told(foreground)
    assert foreground.returncode == 1

    worker = next(process for process in Supervisor(home).processes() if process.name == "track")
    os.kill(worker.pid, signal.SIGKILL)

    supervisor = psutil.Process(int((home / "run" / "supervisord.pid").read_text()))
    supervisor.kill()
    supervisor.wait()
    assert "was killed" in told(podstream("status"))
    anew = podstream("up", "--detach", *ONLY)
    said = told(anew)
    assert anew.returncode == 0, said
    assert "The supervisor had been killed; it left" in said

    enough = writer.live_ticks + LIVE_TICKS
    wait_until(lambda: writer.live_ticks >= enough, PATIENCE_S, "events at the present")
    writer.stop()
    at = datetime.now(UTC).replace(microsecond=0)
    time.sleep(1)  # the log's own times are to be later
    writer.last(at)
    wait_until_settled(settings, log, at)
    oracle = log.check(writer.deliveries)
    happened = what_happened(oracle)
    assert min(happened[name] for name in ("moved", "repeats", "dead")) > 30
    print(dict(happened))
