"""A Faust worker that writes down which part of the rates of strangers' hosts is its own.

Usage: ``python sharing_worker.py FILE WEB_PORT``, the environment as a worker's.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from streams.app import app
from streams.http.rate_limits import HostRateLimiter
from streams.runtime.clock import SystemClock
from topology.settings import get_settings

file, port = Path(sys.argv[1]), sys.argv[2]


async def write_part() -> None:
    while True:
        await asyncio.sleep(0.5)
        file.write_text(f"{HostRateLimiter.of(get_settings(), SystemClock()).part('web'):.6f}")


app.task(write_part)
sys.argv[1:] = ["worker", "--web-host", "127.0.0.1", "--web-port", port]
app.main()
