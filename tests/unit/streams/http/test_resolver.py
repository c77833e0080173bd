from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from streams.http.fetcher import GuardedFetcher
from streams.http.guard import FetchError, UnavailableError
from streams.http.resolver import RESOLVER_THREADS, THREADS, ResolverThreads


class Tarpit(threading.Event):
    """Names under `tarpit.test` are not answered before it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()


@pytest.fixture
def tarpit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tarpit]:
    real, over = socket.getaddrinfo, Tarpit()

    def getaddrinfo(host: str, *args: Any, **options: Any) -> Any:
        if host.endswith(".tarpit.test"):
            over.asked.set()
            over.wait(20)
            raise socket.gaierror(-3, "no answer")
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield over
    over.set()


async def test_names_that_are_never_answered_keep_no_thread_from_others(
    tarpit: Tarpit,
) -> None:
    async with GuardedFetcher([], 1_000, 0.2) as fetcher:
        asked = (fetcher.get(f"http://n{n}.tarpit.test/") for n in range(40))
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert {str(error) for error in errors} == {"no answer within 0.2 s"}
        assert all(isinstance(error, UnavailableError) for error in errors)
        started = time.monotonic()
        await asyncio.gather(*(asyncio.to_thread(int) for _ in range(40)))
        assert time.monotonic() - started < 1
        lookups = [thread for thread in threading.enumerate() if thread.name == "lookup"]
        assert 0 < len(lookups) <= THREADS
        assert all(thread.daemon for thread in lookups)
        tarpit.set()


async def test_look_ups_go_on_after_slow_ones_and_forget_what_nobody_waits_for(
    tarpit: Tarpit,
) -> None:
    lookups = ResolverThreads(1)
    names = ("a.tarpit.test", "b.tarpit.test")
    asked = [asyncio.create_task(lookups.getaddrinfo(name, 80)) for name in names]
    local = asyncio.create_task(lookups.getaddrinfo("127.0.0.1", 80))
    await asyncio.to_thread(tarpit.asked.wait, 20)
    for task in asked:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert not local.done()
    tarpit.set()
    found = await asyncio.wait_for(local, 2)
    assert found[0][4][0] == "127.0.0.1"
    name, _ = await lookups.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)
    assert name == "127.0.0.1"
    with pytest.raises(socket.gaierror):
        await lookups.getaddrinfo("c.tarpit.test", 80)


def test_an_answer_that_comes_after_its_loop_has_ended_hurts_nobody(
    tarpit: Tarpit,
) -> None:
    async def never() -> None:
        async with GuardedFetcher([], 1_000, 0.05) as fetcher:
            with pytest.raises(FetchError):
                await fetcher.get("http://late.tarpit.test/")

    async def after() -> Any:
        return await RESOLVER_THREADS.getaddrinfo("127.0.0.1", 80)

    asyncio.run(never())
    tarpit.set()
    assert asyncio.run(after())
