"""Keeps the instance's processes alive: writes supervisord's configuration and talks to it.

supervisord is the well-kept supervisor; here is only how we speak to it: XML-RPC over a unix
socket that belongs to the user who started it.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport

_SOCKET_PATH_LIMIT = 90
"""Unix socket paths end at 104 (macOS) or 108 (Linux) bytes; supervisord appends a suffix."""

ADDED = "added"
"""Folder, beside the configuration, of the programs that were added to a running supervisord."""

ALIVE = {"STARTING", "RUNNING", "BACKOFF", "STOPPING"}


class SupervisorError(RuntimeError):
    """supervisord did not start or refused; the message says where to look."""


@dataclass(frozen=True)
class Program:
    """One supervised process. ``environment`` is added to the instance's."""

    name: str
    argv: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_wait_s: int = 20
    signal_group: bool = True
    """Whether SIGTERM goes to the whole process group, or to the process alone."""


@dataclass(frozen=True)
class Process:
    """What supervisord says of a program: ``pid`` is 0 when it does not run."""

    name: str
    pid: int
    state: str
    since: int
    """Unix seconds of the latest start."""


def socket_path(home: Path) -> Path:
    """Where supervisord listens: in the home, or under a short name where that is too long."""
    inside = home / "run" / "supervisor.sock"
    if len(os.fsencode(inside)) <= _SOCKET_PATH_LIMIT:
        return inside
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"podstream-{os.getuid()}-{digest}.sock"


def render_config(home: Path, programs: Iterable[Program]) -> str:
    """The supervisor's configuration: nothing starts by itself, what dies is restarted."""
    sections = [
        _section("unix_http_server", {"file": str(socket_path(home)), "chmod": "0700"}),
        _section(
            "supervisord",
            {
                "logfile": str(home / "logs" / "supervisord.log"),
                "logfile_maxbytes": "5MB",
                "logfile_backups": "2",
                "pidfile": str(home / "run" / "supervisord.pid"),
                "childlogdir": str(home / "logs"),
                "directory": str(home),
                "umask": "077",
            },
        ),
        _section(
            "rpcinterface:supervisor",
            {"supervisor.rpcinterface_factory": ("supervisor.rpcinterface:make_main_rpcinterface")},
        ),
    ]
    sections.append(_section("include", {"files": f"{ADDED}/*.conf"}))
    sections += [_program_section(home, program) for program in programs]
    return "\n".join(sections)


def _program_section(home: Path, program: Program) -> str:
    return _section(
        f"program:{program.name}",
        {
            "command": shlex.join(program.argv),
            "directory": str(program.directory),
            "environment": ",".join(
                f'{key}="{_quoted(value)}"' for key, value in program.environment.items()
            ),
            "autostart": "false",
            "autorestart": "true",
            "startsecs": "2",
            # each retry waits a second longer than the one before: it never gives up
            "startretries": "10000",
            "stopsignal": "TERM",
            "stopwaitsecs": str(program.stop_wait_s),
            "stopasgroup": str(program.signal_group).lower(),
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": str(log_file(home, program.name)),
            "stdout_logfile_maxbytes": "5MB",
            "stdout_logfile_backups": "1",
        },
    )


def log_file(home: Path, name: str) -> Path:
    """The log of a program."""
    return home / "logs" / f"{name}.log"


def _section(name: str, values: Mapping[str, str]) -> str:
    # supervisord expands %(name)s, so a plain percent sign is written twice
    lines = (f"{key} = {value.replace('%', '%%')}" for key, value in values.items() if value)
    return f"[{name}]\n" + "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    if '"' in value or "\n" in value:
        raise ValueError(f"A program's environment cannot hold quotes or newlines: {value!r}")
    return value


class Supervisor:
    """The supervisord of a home. SupervisorError where it does not answer, or refuses."""

    def __init__(self, home: Path):
        self.home = home

    def running(self) -> bool:
        """Whether supervisord answers."""
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except SupervisorError:
            return False

    def launch(self, programs: Iterable[Program], environment: Mapping[str, str]) -> None:
        """Start supervisord as a daemon, its programs all stopped."""
        for name in ("run", "logs"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        configuration = self.home / "run" / "supervisord.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(render_config(self.home, programs))
        started = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)],
            env=dict(environment),
            cwd=self.home,
            capture_output=True,
            text=True,
        )
        if started.returncode:
            raise SupervisorError(f"supervisord did not start: {started.stderr.strip()}")
        deadline = time.monotonic() + 20
        while not self.running():
            if time.monotonic() > deadline:
                raise SupervisorError(
                    f"supervisord does not answer: see {self.home / 'logs' / 'supervisord.log'}"
                )
            time.sleep(0.05)

    def processes(self) -> list[Process]:
        """Every program, in the order of the configuration's names."""
        return [
            Process(one["name"], one["pid"], one["statename"], one["start"])
            for one in self._call("getAllProcessInfo")
        ]

    def start(self, names: Iterable[str]) -> None:
        """Start those of the named programs that do not run; return at once."""
        states = {process.name: process.state for process in self.processes()}
        for name in names:
            if name not in states:
                raise SupervisorError(f"This instance has no program {name!r}.")
            if states[name] not in ALIVE:
                self._call("startProcess", name, False, unless=Faults.ALREADY_STARTED)

    def stop(self, names: Iterable[str]) -> None:
        """Stop the named programs together; return when all are down: slow ones are killed."""
        names = set(names)
        for process in self.processes():
            if process.name in names and process.state in ALIVE:
                self._call("stopProcess", process.name, False, unless=Faults.NOT_RUNNING)
        while any(p.name in names and p.state in ALIVE for p in self.processes()):
            time.sleep(0.1)

    def add(self, group: str, programs: Iterable[Program]) -> None:
        """Have programs of their own, stopped as yet, that `up` starts with all others from now on.

        Nothing is asked of a supervisord that does not run: it finds them when it does.
        """
        added = [_program_section(self.home, program) for program in programs]
        path = self._added(group)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text("\n".join(added))
        if self.running():
            new, changed, _ = self._call("reloadConfig")[0]
            for name in changed:
                self._call("stopProcessGroup", name)
                self._call("removeProcessGroup", name)
            for name in [*new, *changed]:
                self._call("addProcessGroup", name)

    def remove(self, group: str) -> list[str]:
        """Stop and forget the programs that were added under this name; gives theirs."""
        self._added(group).unlink(missing_ok=True)
        if not self.running():
            return []
        _, _, gone = self._call("reloadConfig")[0]
        self.stop(gone)
        for name in gone:
            self._call("removeProcessGroup", name)
        return list(gone)

    def _added(self, group: str) -> Path:
        return self.home / "run" / ADDED / f"{group}.conf"

    def shutdown(self) -> None:
        """End supervisord itself, and what it still runs."""
        pid = self._call("getPID")
        self._call("shutdown")
        while _exists(pid):
            time.sleep(0.05)

    def _call(self, method: str, *arguments: Any, unless: int | None = None) -> Any:
        """The answer; None where it is the fault by which all is already as it was asked for."""
        transport = SupervisorTransport(None, None, f"unix://{socket_path(self.home)}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == unless:
                return None
            raise SupervisorError(f"supervisord refused {method}: {fault.faultString}") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise SupervisorError(f"supervisord of {self.home} does not answer") from error
        finally:
            transport.close()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
