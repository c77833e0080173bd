"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import os
import random
import socket
from contextlib import ExitStack, suppress

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
    """``count`` different ports that were free a moment ago, from 10,000 to 19,999.

    Below the ephemeral range: a port of that may be given to any outgoing connection before a
    server has bound it. Raises OSError where there are not so many.
    """
    with ExitStack() as stack:
        found: list[int] = []
        for port in random.sample(range(10_000, 20_000), 10_000):
            if len(found) == count:
                break
            probe = stack.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind((LOOPBACK, port))
                found.append(port)
    if len(found) < count:
        raise OSError(f"There are no {count} free ports between 10000 and 19999.")
    return found


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
