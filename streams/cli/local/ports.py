"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack

from topology.settings import LOOPBACK


def is_free(port: int) -> bool:
    """Whether nothing listens on a loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """``count`` different ports that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]


def free_range(length: int, low: int = 20_000, high: int = 32_000) -> int:
    """First port of ``length`` neighbouring free ones below the ephemeral range.

    Raises OSError where there is none.
    """
    step = -(-length // 10) * 10
    bases = list(range(low, high - step, step))
    # processes that look at the same moment begin at different places
    first = os.getpid() % len(bases)
    for base in bases[first:] + bases[:first]:
        if all(is_free(port) for port in range(base, base + length)):
            return base
    raise OSError(f"No {length} neighbouring free ports between {low} and {high}.")
