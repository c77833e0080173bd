from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from streams.http.fetcher import (
    GuardedFetcher,
)
from streams.http.guard import (
    FetchError,
    GuardedResolver,
    RefusedError,
    UnavailableError,
    is_public_address,
)
from streams.http.resolver import RESOLVER_THREADS

LIMIT = 100_000


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """A server on loopback that does what its paths say; gives its host:port."""

    async def big(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * (LIMIT + 1))

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 10_000)

    async def bomb(request: web.Request) -> web.Response:
        packed = gzip.compress(bytes(50_000_000))
        assert len(packed) < LIMIT
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async def packed(request: web.Request) -> web.Response:
        body = gzip.compress(b"hello")
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    async def redirect(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": request.query["to"]})

    async def loop(request: web.Request) -> web.Response:
        return web.Response(status=301, headers={"Location": "/loop"})

    async def status(request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["code"]))

    async def slow(request: web.Request) -> web.Response:
        await asyncio.Event().wait()  # until it is cancelled
        return web.Response()

    async def hello(request: web.Request) -> web.Response:
        agent = request.headers["User-Agent"]
        return web.Response(text=f"hello {agent}", content_type="text/vtt", charset="utf-8")

    app = web.Application()
    app.router.add_get("/big", big)
    app.router.add_get("/endless", endless)
    app.router.add_get("/bomb", bomb)
    app.router.add_get("/packed", packed)
    app.router.add_get("/redirect", redirect)
    app.router.add_get("/loop", loop)
    app.router.add_get("/status/{code}", status)
    app.router.add_get("/slow", slow)
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_an_allowed_host_is_fetched() -> None:
    async with serving() as host, GuardedFetcher([host], LIMIT) as fetcher:
        fetched = await fetcher.get(f"http://{host}/")
        assert fetched.body.startswith(b"hello podstream/")
        assert (fetched.content_type, fetched.charset) == ("text/vtt", "utf-8")
        assert (await fetcher.get(f"http://{host}/packed")).body == b"hello"
        followed = await fetcher.get(f"http://{host}/redirect?to=/packed")
        assert followed.body == b"hello"
        assert followed.url == f"http://{host}/packed"


@pytest.mark.parametrize(
    "name",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "2130706433",
        "0x7f.1",
        "127.1",
        "0177.0.0.1",
        "0.0.0.0",  # noqa: S104
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.1.1",
        "[fe80::1]",
        "[fc00::1]",
    ],
)
async def test_no_spelling_of_a_private_address_is_reached(name: str) -> None:
    async with serving() as host, GuardedFetcher([], LIMIT, timeout_s=5) as fetcher:
        port = host.rpartition(":")[2]
        with pytest.raises(RefusedError):
            await fetcher.get(f"http://{name}:{port}/")


async def test_an_allowance_is_for_one_port() -> None:
    async with serving() as host, serving() as other, GuardedFetcher([host], LIMIT) as fetcher:
        with pytest.raises(RefusedError, match="not a public address"):
            await fetcher.get(f"http://{other}/")


async def test_a_redirect_is_checked_like_a_first_request() -> None:
    async with serving() as host, serving() as other, GuardedFetcher([host], LIMIT) as fetcher:
        port = other.rpartition(":")[2]
        for target in (
            f"http://{other}/",
            f"//{other}/",
            f"http://localhost:{port}/",
            "file:///etc/passwd",
        ):
            with pytest.raises(RefusedError):
                await fetcher.get(f"http://{host}/redirect?to={target}")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "data:text/plain,x",
        "example.com",
        "",
        "http://",
        "http://user:secret@example.com/",
        "http://[broken/",
    ],
)
async def test_bad_addresses_are_refused(url: str) -> None:
    async with GuardedFetcher() as fetcher:
        with pytest.raises(RefusedError):
            await fetcher.get(url)


@pytest.mark.parametrize("path", ["big", "endless", "bomb"])
async def test_bodies_are_capped_as_announced_as_streamed_and_as_unpacked(path: str) -> None:
    async with serving() as host, GuardedFetcher([host], LIMIT) as fetcher:
        with pytest.raises(RefusedError, match="bytes"):
            await fetcher.get(f"http://{host}/{path}")
        assert (await fetcher.get(f"http://{host}/packed")).body == b"hello"


async def test_failures_say_whether_asking_again_may_help() -> None:
    async with serving() as host, GuardedFetcher([host], LIMIT, timeout_s=0.3) as fetcher:
        for path in ("slow", "status/503", "status/429"):
            with pytest.raises(UnavailableError):
                await fetcher.get(f"http://{host}/{path}")
        with pytest.raises(FetchError, match="404") as missing:
            await fetcher.get(f"http://{host}/status/404")
        assert not isinstance(missing.value, UnavailableError | RefusedError)
        with pytest.raises(RefusedError, match="redirects"):
            await fetcher.get(f"http://{host}/loop")
    async with GuardedFetcher([host], LIMIT) as fetcher:
        with pytest.raises(UnavailableError):
            await fetcher.get(f"http://{host}/")


async def test_one_private_address_spoils_a_name_and_no_second_lookup_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {"mixed.example": ["8.8.8.8", "10.0.0.1"], "public.example": ["8.8.8.8", "1.1.1.1"]}
    asked = []

    async def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in answers[host]]

    monkeypatch.setattr(RESOLVER_THREADS, "getaddrinfo", getaddrinfo)
    resolver = GuardedResolver(frozenset())
    with pytest.raises(RefusedError, match=r"10\.0\.0\.1"):
        await resolver.resolve("mixed.example", 80)
    found = await resolver.resolve("public.example", 80)
    assert [result["host"] for result in found] == ["8.8.8.8", "1.1.1.1"]

    async with serving() as host:
        port = host.rpartition(":")[2]
        answers["demo.example"] = ["127.0.0.1"]
        async with GuardedFetcher([f"demo.example:{port}"], LIMIT) as fetcher:
            await fetcher.get(f"http://demo.example:{port}/")
    assert asked.count("demo.example") == 1


def test_public_addresses() -> None:
    assert is_public_address("8.8.8.8")
    assert is_public_address("2606:4700:4700::1111")
    assert not is_public_address("192.168.1.1")
    assert not is_public_address("::ffff:192.168.1.1")
    assert not is_public_address("not an address")
