"""Instances keep out of each other's way, and a killed supervisor leaves nothing running."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from streams.cli.local.claims import (
    ClaimError,
    check_home,
    claim_delta_root,
    names_of,
    orphans,
    starting,
    stop_orphans,
)
from streams.cli.local.instance import InstanceError, check_running, stop, up
from streams.cli.local.ports import free_range
from streams.cli.local.supervise import Program, Supervisor
from tests.paths import ROOT
from topology.settings import Settings


def _quiet() -> Console:
    return Console(file=io.StringIO())


def _until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["ä b,c #1", "a,b", "a #b", "a;b", 'a"b', "a\nb", "100%", "é"])
def test_a_home_that_services_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ClaimError, match="Choose another PODSTREAM_HOME"):
        check_home(tmp_path / name)
    settings = Settings(podstream_home=tmp_path / name)
    with pytest.raises(ClaimError, match="cannot be an instance's home"):
        up(settings, False, True, _quiet())
    assert not (tmp_path / name).exists()


def test_other_homes_are_taken(tmp_path: Path) -> None:
    check_home(tmp_path / "A home_2.0 +x@y=z~-")


def test_a_second_up_is_refused_and_stops_nothing_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[object] = []
    monkeypatch.setattr("streams.cli.local.instance.stop", lambda *one: stopped.append(one))
    code = (
        "import sys, time; from pathlib import Path\n"
        "from streams.cli.local.claims import starting\n"
        "with starting(Path(sys.argv[1])): print('in', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        for detach in (True, False):
            with pytest.raises(ClaimError, match="Another `podstream up` is starting"):
                up(Settings(podstream_home=tmp_path), False, detach, _quiet())
        assert stopped == []
        first.kill()
    # However the first one ended, the next one may start.
    with starting(tmp_path):
        pass


def test_ctrl_c_in_a_second_up_leaves_the_instance_alone(tmp_path: Path) -> None:
    """The second one starts what is missing of an instance that another command brought up."""
    base = free_range(40)
    environment = {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        "PODSTREAM_HOME": str(tmp_path),
        "PODSTREAM_PORT_BASE": str(base),
    }
    supervisor = Supervisor(tmp_path)
    silent = (sys.executable, "-c", "import time; time.sleep(600)")
    supervisor.launch([Program("broker", silent, tmp_path)], environment)
    try:
        argv = [sys.executable, "-m", "streams.cli.main", "up", "--detach", "--only", "broker"]
        with subprocess.Popen(
            argv, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        ) as second:
            # It waits for a broker that never answers.
            _until(lambda: [p for p in supervisor.processes() if p.pid and p.state == "RUNNING"])
            second.send_signal(signal.SIGINT)
            assert second.stdout is not None
            said = second.stdout.read()
        assert "ran before, and goes on" in " ".join(said.split())  # lines are wrapped
        assert second.returncode != 0
        assert [process.state for process in supervisor.processes()] == ["RUNNING"]
    finally:
        supervisor.shutdown()


def test_a_delta_root_belongs_to_one_home(tmp_path: Path) -> None:
    root = str(tmp_path / "tables")
    claim_delta_root(root, tmp_path / "one")
    claim_delta_root(root, tmp_path / "one")
    with pytest.raises(ClaimError, match=r"are those of the instance in .*one: choose another"):
        claim_delta_root(root, tmp_path / "two")
    claim_delta_root(f"file://{root}", tmp_path / "one")


@pytest.mark.parametrize(
    "root",
    ["s3a://bucket/lake", "s3://bucket/lake", "gs://bucket", "abfss://a@b.example/x", "dbfs:/x"],
)
def test_tables_in_an_object_store_are_nobodys_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for home in ("one", "two"):
        assert f"DELTA_ROOT={root} is no folder" in str(claim_delta_root(root, tmp_path / home))
    assert list(tmp_path.iterdir()) == []


def test_the_tables_in_a_home_move_with_it(tmp_path: Path) -> None:
    claim_delta_root(str(tmp_path / "home" / "delta"), tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Path]:
    """A home whose supervisor was killed while two programs ran, one of them with a child."""
    supervisor = Supervisor(tmp_path)
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    sleep = "import time; time.sleep(600)"
    supervisor.launch(
        [
            Program("broker", (sys.executable, "-c", sleep), tmp_path),
            Program("worker", (sys.executable, "-c", parent, sleep), tmp_path),
        ],
        os.environ,
    )
    supervisor.start(["broker", "worker"])
    _until(lambda: len(orphans(tmp_path)) == 3)
    pid = int((tmp_path / "run" / "supervisord.pid").read_text())
    os.kill(pid, 9)
    _until(lambda: not supervisor.running())
    yield tmp_path
    for process in orphans(tmp_path):
        process.kill()


def test_what_a_killed_supervisor_left_is_named_and_stopped(killed: Path) -> None:
    left = orphans(killed)
    assert names_of(left) == ["broker", "worker"]
    settings = Settings(podstream_home=killed)
    with pytest.raises(InstanceError, match=r"was killed, and broker, worker go on without it"):
        check_running(settings)
    said = io.StringIO()
    assert stop(settings, Console(file=said, width=200)) is True
    assert "it left broker, worker, now stopped" in said.getvalue()
    _until(lambda: not any(psutil.pid_exists(one.pid) and one.is_running() for one in left))
    assert stop(settings, _quiet()) is False
    assert stop_orphans(killed, _quiet()) == []
