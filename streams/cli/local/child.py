"""A server as a child process, for as long as a block lasts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_child(
    argv: Sequence[str], environment: Mapping[str, str], log_file: Path, stop_timeout_s: float
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process beside this one; in the end it is asked to stop, and killed if it does not.

    ``environment`` comes on top of our own. What the process prints is appended to ``log_file``.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            list(argv), env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(stop_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
