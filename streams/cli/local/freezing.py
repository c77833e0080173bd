"""Holds all processes of an instance still for a moment, and sees to it that they go on.

What is then on the disk is what a kill -9 of all of them would leave, which every one of them comes
back from. A process of its own has them go on as well (`thaw`): should this one be killed, or be
stopped itself, or take too long.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from streams.cli.local import thaw
from streams.cli.local.claims import orphans

LONGEST_S = 2.0
"""Longest that anything stands still. The shortest session of an instance is the broker's with
itself, which lasts 5 s; consumers' last 45 s."""

_LOOK_EVERY_S = 0.001
_STOPPED = {"T", "t", "X", "Z"}
"""States of a thread, by proc(5), in which it runs no more: stopped, traced, dead, zombie."""


class FreezeError(RuntimeError):
    """The processes could not be held still for as long as was needed; they go on."""


@dataclass
class Freeze:
    """The processes that stand still, and in the end for how many seconds they did."""

    processes: list[psutil.Process] = field(default_factory=list)
    seconds: float = 0.0


@contextmanager
def frozen(home: Path, longest_s: float = LONGEST_S) -> Iterator[Freeze]:
    """A block during which no process of the instance runs; they go on however it ends.

    FreezeError, at its end, if they had to go on before: then something was written meanwhile.
    """
    freeze = Freeze()
    with _Watcher(longest_s) as watcher:
        began = time.monotonic()
        try:
            _stop_all(home, watcher, freeze, began + longest_s)
            yield freeze
        finally:
            for process in freeze.processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()
            freeze.seconds = time.monotonic() - began if freeze.processes else 0.0
    if watcher.was_needed:
        raise FreezeError(
            f"The instance would have had to stand still for more than {longest_s:g} s, so it goes "
            "on and nothing was taken: try again when the machine is less busy."
        )


class _Watcher:
    """The process that has the others go on, in a session of its own: Ctrl-C is for us alone."""

    def __init__(self, longest_s: float) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", thaw.__file__, str(longest_s)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.was_needed = False
        """Whether, at the end, it had others go on because the longest time was over."""

    def __enter__(self) -> _Watcher:
        if not self._ours.recv(len(thaw.READY)):
            self.__exit__()
            raise FreezeError("The process that is to have all others go on did not start.")
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self.was_needed = self._process.wait() == thaw.TOO_LONG

    def note(self, process: psutil.Process) -> None:
        """Name a process that is about to be stopped. ConnectionError if the time is over."""
        self._ours.sendall(f"{process.pid}\n".encode())


def _stop_all(home: Path, watcher: _Watcher, freeze: Freeze, deadline: float) -> None:
    """Stop every process of the instance, the supervisor first: it then starts no other."""
    known: set[psutil.Process] = set()
    while new := [one for one in members(home, watcher.pid) if one not in known]:
        known.update(new)
        for process in new:
            _stop(process, watcher, freeze)
        _wait_until_stopped(new, deadline)


def _stop(process: psutil.Process, watcher: _Watcher, freeze: Freeze) -> None:
    try:
        watcher.note(process)  # first: at no moment does it depend on us alone
        freeze.processes.append(process)
        process.suspend()
    except ConnectionError:
        raise _not_stopped() from None
    except psutil.NoSuchProcess:
        freeze.processes.remove(process)


def members(home: Path, *others: int) -> list[psutil.Process]:
    """The supervisor of a home and the processes below it, but for these ``others`` and us."""
    found = _supervisor(home)
    for supervisor in list(found):
        with suppress(psutil.NoSuchProcess):
            found += supervisor.children(recursive=True)
    found += orphans(home)
    ours = {os.getpid(), *others}
    return [process for process in dict.fromkeys(found) if process.pid not in ours]


def _supervisor(home: Path) -> list[psutil.Process]:
    try:
        process = psutil.Process(int((home / "run" / "supervisord.pid").read_text()))
        is_ours = str(home / "run" / "supervisord.conf") in process.cmdline()
    except (FileNotFoundError, ValueError, psutil.Error):
        return []
    return [process] if is_ours else []


def _wait_until_stopped(processes: list[psutil.Process], deadline: float) -> None:
    while not all(map(_is_stopped, processes)):
        if time.monotonic() > deadline:
            raise _not_stopped()
        time.sleep(_LOOK_EVERY_S)


def _is_stopped(process: psutil.Process) -> bool:
    """Whether none of its threads runs: one that is in a system call ends that first."""
    tasks = Path(f"/proc/{process.pid}/task")
    try:
        if not tasks.is_dir():
            return not process.is_running() or process.status() in (
                psutil.STATUS_STOPPED,
                psutil.STATUS_ZOMBIE,
            )
        # after the name, which may hold anything, in parentheses
        states = (
            (task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks.iterdir()
        )
        return _STOPPED.issuperset(states)
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return False


def _not_stopped() -> FreezeError:
    return FreezeError("The processes of the instance could not be stopped in time.")
