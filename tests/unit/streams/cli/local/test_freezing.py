"""Processes of a supervisor stand still for a block, and go on however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from streams.cli.local.freezing import FreezeError, frozen
from streams.cli.local.supervise import Program, Supervisor
from tests.paths import ROOT
from tests.waiting import wait_until

PARENT = (
    "import subprocess, sys, threading, time\n"
    "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    "subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
)
HOLDER = (
    "import os, signal, sys, time\n"
    "from pathlib import Path\n"
    "from streams.cli.local.freezing import FreezeError, frozen\n"
    "try:\n"
    "    with frozen(Path(sys.argv[1]), float(sys.argv[2])):\n"
    "        print('in', flush=True)\n"
    "        os.kill(os.getpid(), signal.SIGSTOP)\n"
    "except FreezeError as error:\n"
    "    print(error)\n"
)
MANY_S = 60.0


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[psutil.Process]]:
    """A supervisor, a process of it, and a child of that."""
    supervisor = Supervisor(tmp_path)
    (tmp_path / "parent.py").write_text(PARENT)
    program = Program("parent", (sys.executable, str(tmp_path / "parent.py")), tmp_path)
    supervisor.launch([program], {"PATH": os.environ["PATH"]})
    try:
        supervisor.start(["parent"])
        daemon = psutil.Process(int((tmp_path / "run" / "supervisord.pid").read_text()))
        wait_until(lambda: len(daemon.children(recursive=True)) == 2, MANY_S, "parent and child")
        yield [daemon, *daemon.children(recursive=True)]
    finally:
        supervisor.shutdown()


def stand(processes: list[psutil.Process]) -> list[bool]:
    return [process.status() == psutil.STATUS_STOPPED for process in processes]


def test_everything_stands_still_for_the_block_and_goes_on_behind_it(
    processes: list[psutil.Process], tmp_path: Path
) -> None:
    with frozen(tmp_path, MANY_S) as freeze:
        assert stand(processes) == [True] * 3
        assert set(freeze.processes) == set(processes)
    assert freeze.seconds > 0
    assert stand(processes) == [False] * 3
    with pytest.raises(ZeroDivisionError), frozen(tmp_path, MANY_S):
        raise ZeroDivisionError
    assert stand(processes) == [False] * 3
    assert Supervisor(tmp_path).running()


def test_where_nothing_runs_nothing_is_held(tmp_path: Path) -> None:
    with frozen(tmp_path) as freeze:
        pass
    assert (freeze.processes, freeze.seconds) == ([], 0.0)


def holder(home: Path, longest_s: float) -> subprocess.Popen[str]:
    """A process that holds everything still, and stops."""
    started = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home), str(longest_s)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "in\n"
    return started


def test_they_go_on_when_who_holds_them_is_killed(
    processes: list[psutil.Process], tmp_path: Path
) -> None:
    with holder(tmp_path, 600) as holding:
        assert stand(processes) == [True] * 3
        holding.kill()
        wait_until(lambda: stand(processes) == [False] * 3, MANY_S, "all to go on")


def test_they_go_on_when_who_holds_them_stands_still_itself_and_it_is_told(
    processes: list[psutil.Process], tmp_path: Path
) -> None:
    with holder(tmp_path, 0.5) as holding:
        wait_until(lambda: stand(processes) == [False] * 3, MANY_S, "all to go on")
        holding.send_signal(signal.SIGCONT)
        assert holding.stdout is not None
        assert "more than 0.5 s" in holding.stdout.read()


def test_who_cannot_stop_all_in_time_is_told(
    processes: list[psutil.Process], tmp_path: Path
) -> None:
    with pytest.raises(FreezeError, match="could not be stopped in time"), frozen(tmp_path, -1.0):
        pytest.fail("it was too late")
    assert stand(processes) == [False] * 3
