"""A Faust worker whose flow stops, as at a rebalance, while its consumer waits for records.

Usage: ``python pausing_worker.py FOLDER WEB_PORT``, the environment as a worker's. It makes a
file ``stopped`` in the folder when its flow has stopped, ``fetched`` when the fetch that had begun
has ended, and goes on once there is ``go-on``.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from streams.app import app

folder, port = Path(sys.argv[1]), sys.argv[2]


async def stop_and_go_on() -> None:
    consumer = app.consumer
    while app.rebalancing or not consumer.assignment():
        await asyncio.sleep(0.1)
    await asyncio.sleep(2)
    fetching = _Waiting(consumer._getmany)  # type: ignore[attr-defined]
    consumer._getmany = fetching.getmany  # type: ignore[attr-defined]
    await fetching.begun.wait()
    consumer.stop_flow()
    (folder / "stopped").touch()
    while not (folder / "go-on").exists():
        await asyncio.sleep(0.05)
    consumer.resume_flow()


class _Waiting:
    """Tells when a fetch has begun, and makes a file when one has ended after that."""

    def __init__(self, getmany: Any) -> None:
        self._getmany = getmany
        self.begun = asyncio.Event()

    async def getmany(self, **kwargs: Any) -> Any:
        self.begun.set()
        fetched = await self._getmany(**kwargs)
        (folder / "fetched").touch()
        return fetched


app.task(stop_and_go_on)
sys.argv[1:] = ["worker", "--web-port", port, "-l", "info"]
app.main()
