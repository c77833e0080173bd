"""What a stranger's address or server may try, one test each, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from yarl import URL

from streams.http.fetcher import (
    GuardedFetcher,
)
from streams.http.guard import (
    FetchError,
    GoneError,
    RefusedError,
    UnavailableError,
    is_public_address,
)
from streams.http.media import FEED, TRANSCRIPT
from streams.http.rate_limits import HostRateLimiter
from streams.http.resolver import RESOLVER_THREADS
from tests.clocks import StandingClock

LIMIT = 100_000
Script = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A raw server on loopback; ``requests`` are the heads that it was sent."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.requests: list[bytes] = []
        self.host = ""
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
                await self._script(head, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Server]:
    made = Server(script)
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    made.host = f"127.0.0.1:{made.port}"
    try:
        yield made
    finally:
        server.close()


def answer(body: bytes, *headers: str, status: str = "200 OK") -> Script:
    async def script(_: bytes, writer: asyncio.StreamWriter) -> None:
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        writer.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)

    return script


async def chunked(writer: asyncio.StreamWriter, *headers: str) -> None:
    head = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Content-Type: text/vtt", *headers]
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n")


def chunk(body: bytes) -> bytes:
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


def resolving(monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[list[str]]]) -> list[str]:
    """Answer look-ups from a script, one list of addresses after another; what was asked."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        rounds = answers[host]
        found = rounds.pop(0) if len(rounds) > 1 else rounds[0]
        return [
            (
                socket.AF_INET6 if ":" in ip else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (ip, port, 0, 0) if ":" in ip else (ip, port),
            )
            for ip in found
        ]

    monkeypatch.setattr(RESOLVER_THREADS, "getaddrinfo", getaddrinfo)
    return asked


# -- where it leads ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "127.0.0.1",  # loopback
        "127.0.0.1.",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "[::1]",
        "0.0.0.0",  # noqa: S104
        "[::]",
        "169.254.169.254",  # link-local: a cloud's metadata
        "168.63.129.16",  # public, and a cloud's inside
        "[::ffff:168.63.129.16]",
        "[fe80::1]",
        "10.0.0.1",  # private
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "[fc00::1]",
        "[fec0::1]",
        "[::ffff:127.0.0.1]",  # IPv4 within IPv6
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",  # NAT64
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",  # 6to4
        "2130706433",  # decimal
        "017700000001",  # octal
        "0177.0.0.1",
        "0x7f.1",  # hexadecimal
        "0x7f000001",
        "127.1",  # short
        "127.0.1",
        "%31%32%37.0.0.1",  # escaped
        "①②⑦.⓪.⓪.①",  # digits of another script
        "127。0。0。1",  # full stops of another script
        "224.0.1.1",  # multicast
        "255.255.255.255",
    ],
)
async def test_no_spelling_of_a_private_address_is_reached(name: str) -> None:
    async with (
        serving(answer(b"secret", "Content-Type: text/plain")) as server,
        GuardedFetcher([], LIMIT, timeout_s=5) as fetcher,
    ):
        with pytest.raises(FetchError):
            await fetcher.get(f"http://{name}:{server.port}/")
        assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/feed.xml",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "data:text/plain,x",
        "javascript:alert(1)",
        "//example.com/",
        "example.com/feed",
        "",
        "http://",
        "http:///path",
        "https://?",
        "http://[broken/",
        "http://[::1",
        "http://example.com:0/",
        "http://example.com:70000/",
        "http://example.com:port/",
        "http://user:secret@example.com/",
        "http://user@example.com/",
        "http://:@example.com/",
        "http://example.com@127.0.0.1/",
        "http://example.com:80@127.0.0.1/",
        "http://example.com%40127.0.0.1@127.0.0.1/",
        "http://127.0.0.1\\@example.com/",
        "http://127.0.0.1#@example.com/",
        "http://127.0.0.1?@example.com/",
    ],
)
async def test_addresses_of_another_kind_or_with_credentials_are_refused(url: str) -> None:
    async with GuardedFetcher([], LIMIT, timeout_s=2) as fetcher:
        with pytest.raises(RefusedError):
            await fetcher.get(url)


async def test_line_ends_in_an_address_add_no_header_and_no_second_request() -> None:
    async with (
        serving(answer(b"ok", "Content-Type: text/plain")) as server,
        GuardedFetcher([server.host], LIMIT, timeout_s=5) as fetcher,
    ):
        for injected in ("/a\r\nX-Evil: 1", "/a%0d%0aX-Evil: 1", "/?q=\r\n\r\nGET /evil", "/\n"):
            await fetcher.get(f"http://{server.host}{injected}")
        with pytest.raises(FetchError):
            await fetcher.get(f"http://{server.host}\r\nX-Evil: 1/")
        with pytest.raises(FetchError):
            await fetcher.get(f"http://{server.host}/", etag='"a"\r\nX-Evil: 1')
    for request in server.requests:
        names = [line.partition(b":")[0].strip().lower() for line in request.split(b"\r\n")]
        assert b"x-evil" not in names
        assert request.count(b"\r\n\r\n") == 1


async def test_a_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    private = {
        "inside.example": [["127.0.0.1"]],
        "mixed.example": [["8.8.8.8", "10.0.0.1"]],
        "six.example": [["::1"]],
        "mapped.example": [["::ffff:169.254.169.254"]],
    }
    async with serving(answer(b"secret")) as server:
        resolving(monkeypatch, private)
        async with GuardedFetcher([], LIMIT, timeout_s=5) as fetcher:
            for name in private:
                with pytest.raises(RefusedError, match="not public"):
                    await fetcher.get(f"http://{name}:{server.port}/")
        assert server.requests == []


async def test_a_second_look_up_cannot_answer_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: public when it is checked, private when it is connected to."""
    connected: list[str] = []

    async def sock_connect(sock: socket.socket, address: tuple[Any, ...]) -> None:
        connected.append(address[0])
        raise ConnectionRefusedError("nobody there")

    async with serving(answer(b"secret")) as server:
        asked = resolving(monkeypatch, {"rebind.example": [["8.8.8.8"], ["127.0.0.1"]]})
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", sock_connect)
        async with GuardedFetcher([], LIMIT, timeout_s=5) as fetcher:
            with pytest.raises(UnavailableError):
                await fetcher.get(f"http://rebind.example:{server.port}/")
            assert connected == ["8.8.8.8"]
            assert asked == ["rebind.example"]
        # and where a later fetch looks it up anew, it is checked anew
        async with GuardedFetcher([], LIMIT, timeout_s=5) as fetcher:
            with pytest.raises(RefusedError):
                await fetcher.get(f"http://rebind.example:{server.port}/")
        assert connected == ["8.8.8.8"]
        assert server.requests == []


async def test_the_socket_itself_is_guarded_whatever_the_checks_before_it_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(answer(b"secret")) as server:
        monkeypatch.setattr("streams.http.fetcher.check_url", lambda url, allowed: URL(url))
        async with GuardedFetcher([], LIMIT, timeout_s=5) as fetcher:
            with pytest.raises(RefusedError, match="not a public address"):
                await fetcher.get(f"http://127.0.0.1:{server.port}/")
        assert server.requests == []


@pytest.mark.parametrize(
    "to",
    [
        "http://{inside}/",
        "//{inside}/",
        "http://localhost:{port}/",
        "http://2130706433:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://user:pass@{inside}/",
        "file:///etc/passwd",
        "ftp://example.com/",
        "javascript:alert(1)",
        "http://[broken/",
    ],
)
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_a_redirect_is_checked_like_a_first_request(to: str, status: str) -> None:
    async with serving(answer(b"secret")) as inside:
        target = to.format(inside=inside.host, port=inside.port)
        script = answer(b"", f"Location: {target}", status=status)
        async with serving(script) as server, GuardedFetcher([server.host], LIMIT) as fetcher:
            with pytest.raises(RefusedError):
                await fetcher.get(f"http://{server.host}/")
            assert inside.requests == []
            assert len(server.requests) == 1


async def test_a_loop_of_redirects_ends() -> None:
    script = answer(b"", "Location: /again", status="302 Found")
    async with serving(script) as server, GuardedFetcher([server.host], LIMIT) as fetcher:
        with pytest.raises(RefusedError, match="more than 5 redirects"):
            await fetcher.get(f"http://{server.host}/")
        assert len(server.requests) == 6


# -- what it sends -------------------------------------------------------------------------------


async def test_a_gzip_bomb_is_defused_before_it_unfolds() -> None:
    packed = gzip.compress(bytes(100_000_000), 9)
    assert len(packed) < LIMIT
    script = answer(packed, "Content-Encoding: gzip", "Content-Type: text/vtt")
    await _refused_within_memory(script, "unpacks to more")


async def test_a_gzip_file_that_is_a_bomb_is_defused_too() -> None:
    packed = gzip.compress(bytes(100_000_000), 9)
    for body, headers in ((packed, ()), (gzip.compress(packed), ("Content-Encoding: gzip",))):
        script = answer(body, "Content-Type: application/octet-stream", *headers)
        await _refused_within_memory(script, "unpacks to more")


async def test_a_deflate_bomb_is_defused() -> None:
    for packed in (zlib.compress(bytes(100_000_000), 9), zlib.compress(bytes(100_000_000), 9)[2:]):
        script = answer(packed, "Content-Encoding: deflate", "Content-Type: text/vtt")
        await _refused_within_memory(script, "unpacks to more")


async def _refused_within_memory(script: Script, why: str) -> None:
    async with serving(script) as server, GuardedFetcher([server.host], LIMIT) as fetcher:
        tracemalloc.start()
        with pytest.raises(RefusedError, match=why):
            await fetcher.get(f"http://{server.host}/")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "exi"])
async def test_packings_that_were_not_asked_for_are_not_unpacked(encoding: str) -> None:
    script = answer(b"x", f"Content-Encoding: {encoding}", "Content-Type: text/vtt")
    async with serving(script) as server, GuardedFetcher([server.host], LIMIT) as fetcher:
        with pytest.raises(RefusedError, match="not asked for"):
            await fetcher.get(f"http://{server.host}/")
        offered = [line for line in server.requests[0].split(b"\r\n") if b"ccept-Enc" in line]
        assert offered == [b"Accept-Encoding: gzip, deflate"]


async def test_a_packed_body_that_never_yields_anything_is_cut_off() -> None:
    """Empty blocks: endless on the wire, nothing once unpacked."""

    async def script(_: bytes, writer: asyncio.StreamWriter) -> None:
        await chunked(writer, "Content-Encoding: deflate")
        writer.write(chunk(b"\x78\x9c"))
        while True:
            writer.write(chunk(b"\x00\x00\x00\xff\xff" * 2000))
            await writer.drain()

    async with serving(script) as server, GuardedFetcher([server.host], LIMIT) as fetcher:
        with pytest.raises(RefusedError, match="larger than the 100,000 bytes"):
            await fetcher.get(f"http://{server.host}/")


async def test_a_body_without_end_is_cut_off() -> None:
    async def script(_: bytes, writer: asyncio.StreamWriter) -> None:
        await chunked(writer)
        while True:
            writer.write(chunk(b"x" * 10_000))
            await writer.drain()

    async with serving(script) as server, GuardedFetcher([server.host], LIMIT) as fetcher:
        with pytest.raises(RefusedError, match="larger than the 100,000 bytes"):
            await fetcher.get(f"http://{server.host}/")


async def test_what_is_announced_too_large_is_not_read() -> None:
    async def script(_: bytes, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/vtt\r\nContent-Length: 30000000\r\n\r\n"
        writer.write(head + b"x" * 1000)

    async with serving(script) as server, GuardedFetcher([server.host], LIMIT) as fetcher:
        with pytest.raises(RefusedError) as refused:
            await fetcher.get(f"http://{server.host}/")
    assert str(refused.value) == (
        "too large: it is 30,000,000 bytes; 100,000 are allowed (FETCH_MAX_BYTES)"
    )


@pytest.mark.parametrize("where", ["head", "body", "redirects"])
async def test_a_slow_drip_runs_out_of_time(where: str) -> None:
    clock = StandingClock()

    async def script(_: bytes, writer: asyncio.StreamWriter) -> None:
        if where == "redirects":
            clock.move(8)
            await answer(b"", "Location: /more", status="302 Found")(b"", writer)
            return
        if where == "body":
            await chunked(writer)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while True:
            writer.write(chunk(b"x") if where == "body" else b"x")
            await writer.drain()
            clock.move(0.5)
            await clock.sleep(0)

    async with (
        serving(script) as server,
        GuardedFetcher(
            [server.host], LIMIT, timeout_s=20, rate_limiter=HostRateLimiter.unlimited(clock)
        ) as fetcher,
    ):
        started = clock.monotonic()
        with pytest.raises(UnavailableError, match=r"no answer within 20 s"):
            await fetcher.get(f"http://{server.host}/")
        assert 20 <= clock.monotonic() - started < 30


@pytest.mark.parametrize("line", [b"X-Huge: " + b"x" * 1_000_000, b"X-Many: 1\r\n" * 50_000])
async def test_headers_are_bounded(line: bytes) -> None:
    async def script(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 2\r\n\r\nok")

    async with (
        serving(script) as server,
        GuardedFetcher([server.host], LIMIT, timeout_s=5) as fetcher,
    ):
        with pytest.raises(FetchError):
            await fetcher.get(f"http://{server.host}/")


@pytest.mark.parametrize(
    "garbage", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 5000]
)
async def test_what_is_no_http_is_a_failure(garbage: bytes) -> None:
    async def script(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(garbage)
        await writer.drain()
        writer.close()

    async with (
        serving(script) as server,
        GuardedFetcher([server.host], LIMIT, timeout_s=5) as fetcher,
    ):
        with pytest.raises(FetchError):
            await fetcher.get(f"http://{server.host}/")


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Type: audio/\xff",),
        ("Content-Encoding: \xff\x80",),
        ("Content-Type: text/vtt", 'ETag: "\xff"', "Last-Modified: \xe9"),
        ("Content-Type: text/vtt; charset=\xff",),
        ("Content-Length: \xff",),
    ],
)
async def test_headers_with_any_bytes_make_nothing_that_a_record_cannot_carry(
    headers: tuple[str, ...],
) -> None:
    rate_limiter = HostRateLimiter.unlimited()
    async with (
        serving(answer(b"words", *headers)) as server,
        GuardedFetcher([server.host], LIMIT, 5, rate_limiter) as fetcher,
    ):
        try:
            fetched = await fetcher.get(f"http://{server.host}/", accept=TRANSCRIPT)
        except FetchError as error:
            str(error).encode()
        else:
            for text in (fetched.content_type, fetched.charset, fetched.etag, fetched.url):
                (text or "").encode()
            again = {"etag": fetched.etag, "last_modified": fetched.last_modified}
            await fetcher.get(f"http://{server.host}/", accept=TRANSCRIPT, **again)
    for record in rate_limiter.report("w"):
        record["last_error"].encode()


async def test_no_cookie_credential_or_address_is_told_to_the_next_host() -> None:
    async with serving(answer(b"ok", "Content-Type: text/plain")) as second:
        script = answer(
            b"", "Set-Cookie: a=b", f"Location: http://{second.host}/", status="302 Found"
        )
        async with (
            serving(script) as first,
            GuardedFetcher([first.host, second.host], LIMIT) as fetcher,
        ):
            await fetcher.get(f"http://{first.host}/?token=hush")
    sent = b"".join(second.requests).lower()
    assert b"cookie" not in sent
    assert b"authorization" not in sent
    assert b"hush" not in sent


# -- what is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mime", "transcript", "feed"),
    [
        ("text/vtt; charset=utf-8", True, True),
        ("application/x-subrip", True, False),
        ("application/json", True, False),
        ("application/rss+xml", True, True),
        ("application/octet-stream", True, True),
        ("", True, True),
        ("audio/mpeg", False, False),
        ("video/mp4", False, False),
        ("image/png", False, False),
        ("application/pdf", False, False),
        ("application/zip", False, False),
    ],
)
async def test_only_types_of_the_kind_are_read(mime: str, transcript: bool, feed: bool) -> None:
    script = answer(b"words", *([f"Content-Type: {mime}"] if mime else []))
    async with serving(script) as server, GuardedFetcher([server.host], LIMIT) as fetcher:
        for accept, taken in ((TRANSCRIPT, transcript), (FEED, feed)):
            if taken:
                fetched = await fetcher.get(f"http://{server.host}/", accept=accept)
                assert fetched.body == b"words"
            else:
                with pytest.raises(RefusedError) as refused:
                    await fetcher.get(f"http://{server.host}/", accept=accept)
                wanted = "a transcript" if accept is TRANSCRIPT else "a feed"
                assert str(refused.value) == f"the server sent {mime!r} where {wanted} was expected"


async def test_packed_bodies_and_files_are_unpacked() -> None:
    text = b"WEBVTT\n\n" * 1000
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    cases = [
        (gzip.compress(text), ["Content-Encoding: gzip"]),
        (gzip.compress(text[:4000]) + gzip.compress(text[4000:]), ["Content-Encoding: x-gzip"]),
        (gzip.compress(text) + b"\0\0\0\0", ["Content-Encoding: gzip"]),
        (zlib.compress(text), ["Content-Encoding: deflate"]),
        (raw.compress(text) + raw.flush(), ["Content-Encoding: deflate"]),
        (gzip.compress(text), ["Content-Type: application/gzip"]),
        (text, ["Content-Encoding: identity"]),
    ]
    for body, headers in cases:
        async with (
            serving(answer(body, *headers)) as server,
            GuardedFetcher([server.host], LIMIT) as fetcher,
        ):
            assert (await fetcher.get(f"http://{server.host}/")).body == text
    for body in (gzip.compress(text)[:-20], b"\x1f\x8bnonsense"):
        for headers in (["Content-Encoding: gzip"], []):
            async with (
                serving(answer(body, *headers)) as server,
                GuardedFetcher([server.host], LIMIT) as fetcher,
            ):
                with pytest.raises(FetchError, match="gzip body"):
                    await fetcher.get(f"http://{server.host}/")


async def test_what_has_not_changed_is_not_sent_again() -> None:
    async def script(head: bytes, writer: asyncio.StreamWriter) -> None:
        known = b'If-None-Match: "v1"' in head or b"If-Modified-Since: Mon" in head
        status = "304 Not Modified" if known else "200 OK"
        headers = ['ETag: "v1"', "Last-Modified: Mon, 02 Nov 2026 10:00:00 GMT"]
        await answer(b"" if known else b"words", *headers, status=status)(head, writer)

    async with serving(script) as server, GuardedFetcher([server.host], LIMIT) as fetcher:
        url = f"http://{server.host}/"
        first = await fetcher.get(url)
        assert (first.body, first.etag, first.not_modified) == (b"words", '"v1"', False)
        for etag, last_modified in ((first.etag or "", ""), ("", first.last_modified or "")):
            again = await fetcher.get(url, etag=etag, last_modified=last_modified)
            assert (again.body, again.etag, again.not_modified) == (b"", '"v1"', True)


async def test_gone_is_told_from_missing_and_304_from_nothing_asked() -> None:
    for status, kind in (("410 Gone", GoneError), ("404 Not Found", FetchError)):
        script = answer(b"", status=status)
        async with serving(script) as server, GuardedFetcher([server.host], LIMIT) as fetcher:
            with pytest.raises(FetchError) as failed:
                await fetcher.get(f"http://{server.host}/")
            assert type(failed.value) is kind
    script = answer(b"", status="304 Not Modified")
    async with serving(script) as server, GuardedFetcher([server.host], LIMIT) as fetcher:
        with pytest.raises(FetchError, match="304"):
            await fetcher.get(f"http://{server.host}/")


async def test_a_host_that_keeps_failing_is_left_alone_and_says_until_when() -> None:
    script, clock = answer(b"", status="503 Service Unavailable"), StandingClock()
    rate_limiter = HostRateLimiter.unlimited(clock)
    async with (
        serving(script) as server,
        GuardedFetcher([server.host], LIMIT, rate_limiter=rate_limiter) as fetcher,
    ):
        for _ in range(5):
            with pytest.raises(UnavailableError, match="HTTP 503"):
                await fetcher.get(f"http://{server.host}/")
        with pytest.raises(UnavailableError, match="circuit open until 20") as refused:
            await fetcher.get(f"http://{server.host}/")
        assert refused.value.until is not None
        assert 0.8 * 30 <= refused.value.until - clock.now() <= 1.2 * 30
        assert len(server.requests) == 5


def test_addresses_that_are_nobodys_web_server_are_not_public() -> None:
    for address in ("192.0.0.8", "192.88.99.1", "3fff::1", "fec0::1", "64:ff9b:1::808:808"):
        assert not is_public_address(address)
    for address in ("8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808"):
        assert is_public_address(address)
