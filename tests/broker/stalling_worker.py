"""A Faust worker that, when a file appears, stops fetching or lets its event loop stand still.

Usage: ``python stalling_worker.py fetching|loop FILE WEB_PORT``, the environment as a worker's. It
makes a file of the same name that ends with ``.done``.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from streams.runtime import watchdog

watchdog.STALL_S, watchdog.LOOK_EVERY_S, watchdog.LOOP_STALL_S = 3.0, 0.5, 3.0

from streams.app import app  # noqa: E402

how, marker, port = sys.argv[1], Path(sys.argv[2]), sys.argv[3]


async def stand_still() -> None:
    while not marker.exists():
        await asyncio.sleep(0.1)
    done = marker.with_suffix(".done")
    if how == "loop":
        done.touch()
        time.sleep(600)
    consumer = app.consumer._thread._consumer  # type: ignore[attr-defined]
    consumer.pause(*consumer.assignment())
    done.touch()


app.task(stand_still)
sys.argv[1:] = ["worker", "--web-port", port, "-l", "warn"]
app.main()
