"""Counts and times the requests of the API, by route, whatever ids are in their paths."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.monitoring.instruments import counter, histogram
from topology.monitoring.metrics import API_REQUESTS, API_SECONDS

UNKNOWN = "unknown"
"""What asks for no route of ours: paths of strangers make no series of their own."""


class Measured:
    """An application whose requests are counted once their answer has been sent."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; anything else, such as the start, is passed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", UNKNOWN)
            counter(API_REQUESTS).labels(route, str(status)).inc()
            histogram(API_SECONDS).labels(route).observe(time.perf_counter() - began)
