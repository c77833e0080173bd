"""What a worker tells of the hosts it asks, on `source-hosts`."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from streams.http.rate_limits import HostRateLimiter
from streams.runtime.context import Context
from topology.settings import Settings
from topology.topics.hosts import SOURCE_HOSTS

REPORT_EVERY_S = 5.0


def report_hosts(context: Context) -> None:
    """Count the stage in among those that ask hosts; the first of a process tells of all of them.

    Every stage that asks hosts calls it once, when it is registered.
    """
    rate_limiter = HostRateLimiter.of(context.settings, context.clock)
    stage = context.stage
    if not rate_limiter.join(stage.name, stage.reaches, context.owned_fraction):
        return
    worker = worker_name(context.settings)

    @context.timer(REPORT_EVERY_S)
    async def tell_hosts() -> None:
        for record in rate_limiter.report(worker):
            await context.send(SOURCE_HOSTS, record, key=f"{worker}|{record['host']}")


def worker_name(settings: Settings) -> str:
    """This machine and the worker's own folder on it, so that a restart keeps the name."""
    folder = Path(os.environ.get("F_DATADIR", settings.podstream_home / "faust"))
    return f"{socket.gethostname()}/{folder.name}"
