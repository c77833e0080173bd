"""supervisord's configuration, and supervisord itself on small programs."""

from __future__ import annotations

import configparser
import os
import shlex
import stat
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from streams.cli.local.supervise import (
    Program,
    Supervisor,
    SupervisorError,
    log_file,
    render_config,
    socket_path,
)


def _program(home: Path, name: str, code: str, **more: Any) -> Program:
    return Program(name, (sys.executable, "-c", code), home, **more)


def _until(condition: Any, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "a home"


@pytest.fixture
def supervisor(home: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(home)
    yield supervisor
    if supervisor.running():
        supervisor.shutdown()


def test_a_command_with_spaces_and_percent_signs_survives(home: Path) -> None:
    program = Program("odd", ("run", "two words", "100%", 'say "hi"'), home)
    parser = configparser.RawConfigParser()
    parser.read_string(render_config(home, [program]))
    command = parser["program:odd"]["command"].replace("%%", "%")
    assert shlex.split(command) == [*program.argv]


def test_environment_that_supervisord_cannot_hold_is_refused(home: Path) -> None:
    with pytest.raises(ValueError, match="quotes"):
        render_config(home, [_program(home, "x", "", environment={"KEY": 'a "b"'})])


def test_a_deep_home_gets_a_short_socket_of_its_own(tmp_path: Path) -> None:
    deep, other = tmp_path / ("d" * 120), tmp_path / ("e" * 120)
    assert len(os.fsencode(socket_path(deep))) < 90
    assert socket_path(deep) == socket_path(deep) != socket_path(other)
    shallow = Path("/srv/podstream")
    assert socket_path(shallow) == shallow / "run" / "supervisor.sock"


def test_nothing_answers_in_a_home_without_supervisord(supervisor: Supervisor) -> None:
    assert not supervisor.running()
    with pytest.raises(SupervisorError, match="does not answer"):
        supervisor.processes()


def test_programs_start_on_request_restart_when_killed_and_stop(
    supervisor: Supervisor, home: Path
) -> None:
    sleeper = "import os, time; print(os.environ['WORD'], flush=True); time.sleep(600)"
    programs = [
        _program(home, "one", sleeper, environment={"WORD": "50% of, it"}),
        _program(home, "two", sleeper, environment={"WORD": "x"}),
    ]
    supervisor.launch(programs, os.environ)
    assert {p.state for p in supervisor.processes()} == {"STOPPED"}
    mode = stat.S_IMODE(socket_path(home).stat().st_mode)
    assert mode & 0o077 == 0

    supervisor.start(["one"])

    def running() -> dict[str, int]:
        return {p.name: p.pid for p in supervisor.processes() if p.state == "RUNNING"}

    _until(lambda: "one" in running())
    assert "50% of, it" in log_file(home, "one").read_text()
    first = running()["one"]
    os.kill(first, 9)
    _until(lambda: running().get("one", first) != first)

    alive = supervisor.processes()
    with ThreadPoolExecutor() as two:  # a Ctrl-C and a `down`, say
        for stopped in [two.submit(supervisor.stop, ["one"]) for _ in range(2)]:
            stopped.result()
    stopped_by_now = supervisor.processes()
    assert {p.state for p in stopped_by_now} == {"STOPPED"}
    with patch.object(supervisor, "processes", side_effect=[alive, stopped_by_now]):
        supervisor.stop(["one"])  # it ended after it had been asked for
    with pytest.raises(SupervisorError, match="no program 'three'"):
        supervisor.start(["three"])
    supervisor.shutdown()
    assert not supervisor.running()
