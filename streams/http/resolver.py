"""DNS resolution in threads of its own.

A look-up cannot be interrupted, and one of a domain whose name servers never answer takes longer
than any fetch: in the threads of the event loop it would keep out the parsing of other files.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any

THREADS = 16


class ResolverThreads:
    """What aiohttp's resolver needs of an event loop: look-ups, a limited number at a time.

    Threads are started as they are needed, and never end: they wait for the next name.
    """

    def __init__(self, threads: int = THREADS) -> None:
        self._asked: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._left = threads
        """Threads that may still be started."""

    async def getaddrinfo(self, host: str, port: int, **options: Any) -> Any:
        """As `socket.getaddrinfo`."""
        return await self._run(partial(socket.getaddrinfo, host, port, **options))

    async def getnameinfo(self, address: tuple[Any, ...], flags: int) -> Any:
        """As `socket.getnameinfo`."""
        return await self._run(partial(socket.getnameinfo, address, flags))

    async def _run(self, call: Callable[[], Any]) -> Any:
        if self._left:
            self._left -= 1
            # A worker that ends does not wait for what nobody answers.
            threading.Thread(target=self._work, name="lookup", daemon=True).start()
        future: Future[Any] = Future()
        self._asked.put((future, call))
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while True:
            future, call = self._asked.get()
            if not future.set_running_or_notify_cancel():
                continue  # the request was cancelled, and nobody waits for the address
            try:
                future.set_result(call())
            except Exception as error:
                future.set_exception(error)


RESOLVER_THREADS = ResolverThreads()
"""Those of this process."""
