"""Lets processes go on that another process has stopped: when it is done, when it dies, or when it
takes too long.

A program of its own, run by its path, with the longest time in seconds as its argument. It reads
the numbers of processes, one a line, from its input; at its end, or when the longest time since the
first one is over, it has all of them go on. The exit status is 0, or TOO_LONG.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

TOO_LONG = 3
READY = b"ready\n"


def main(longest_s: float) -> int:
    """Wait for the end of the input, and have everything that it named go on."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(1, READY)
    said, deadline = b"", None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        readable, _, _ = select.select([0], [], [], left)
        chunk = os.read(0, 65_536) if readable else b""
        if not chunk:
            go_on(said)
            return 0 if readable else TOO_LONG
        said += chunk
        deadline = deadline or time.monotonic() + longest_s


def go_on(said: bytes) -> None:
    """Send SIGCONT to the processes of these lines; one that has ended is passed over."""
    for line in said.split(b"\n")[:-1]:
        try:
            os.kill(int(line), signal.SIGCONT)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
