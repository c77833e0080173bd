"""Fetches addresses that strangers chose, without letting them choose what we may reach.

Feeds and transcripts name their own URLs. Only http and https to public addresses are fetched;
the address that was checked is the one connected to (no second look-up that could answer
otherwise); each redirect is checked like a first request; bodies are capped as announced and as
unpacked; and the whole fetch has one time limit. Proxies from the environment are not used: a
proxy would resolve names where we cannot check them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from topology.settings import Settings

USER_AGENT = "podstream/0.1 (+https://podcastindex.org)"
MAX_REDIRECTS = 5
CHUNK_BYTES = 65_536
REDIRECTS = frozenset({301, 302, 303, 307, 308})
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class FetchError(Exception):
    """A fetch that did not work; the message says why, fit for a record's `reason`."""


class RefusedError(FetchError):
    """A fetch that our own rules forbid: asking again will not help."""


class GoneError(FetchError):
    """The server says that the thing is gone for good (410)."""


class UnavailableError(FetchError):
    """A fetch that the network or the server failed: asking again later may help."""


@dataclass(frozen=True)
class Fetched:
    """A body, its final ``url``, and the ``content_type`` and ``charset`` the server named.

    ``etag`` and ``last_modified`` are for the next request; where the server answers it with
    ``not_modified``, the body is empty.
    """

    url: str
    content_type: str
    charset: str | None
    body: bytes
    etag: str = ""
    last_modified: str = ""
    not_modified: bool = False


def is_public_address(address: str) -> bool:
    """Whether an IP address is one of the public internet, IPv4 wrapped into IPv6 included."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if wrapped is None and ip in NAT64:
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if wrapped is not None and not is_public_address(str(wrapped)):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class GuardedResolver(AbstractResolver):
    """Resolves a name and lets it pass only if all its addresses may be reached.

    All, not some: a name with one private address among its public ones is a rebinding attempt
    or a mistake, and in both cases nothing of ours to talk to.
    """

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = allowed
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if f"{host}:{port}" not in self._allowed:
            for result in found:
                if not is_public_address(result["host"]):
                    raise RefusedError(f"{host} resolves to {result['host']}, which is not public")
        return found

    async def close(self) -> None:
        await self._resolver.close()


class GuardedFetcher:
    """An HTTP client for addresses that are not trusted.

    Connections are opened as needed and given back by ``close()`` or at the end of ``async with``;
    the fetcher may be used again afterwards.
    ``allow_hosts`` are ``host:port`` pairs that may be reached although they are not public.
    """

    def __init__(
        self, allow_hosts: Iterable[str] = (), max_bytes: int = 10_000_000, timeout_s: float = 20.0
    ) -> None:
        self._allowed = frozenset(allow_hosts)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> GuardedFetcher:
        return cls(settings.fetch_allow_hosts, settings.fetch_max_bytes, settings.fetch_timeout_s)

    async def __aenter__(self) -> GuardedFetcher:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, url: str, *, etag: str = "", last_modified: str = "") -> Fetched:
        """The body behind ``url``, unpacked, unless it is still what the validators stand for.

        Raises RefusedError where our rules forbid it, UnavailableError where network, server or
        time failed, GoneError or FetchError where the server has no such thing.
        """
        headers = {"If-None-Match": etag, "If-Modified-Since": last_modified}
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(url, {k: v for k, v in headers.items() if v})
        except TimeoutError:
            raise UnavailableError(f"no answer within {self._timeout_s:g} s") from None
        except aiohttp.InvalidURL as error:
            raise RefusedError(f"not an address: {error}"[:300]) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnavailableError(f"{type(error).__name__}: {error}"[:300]) from error

    async def _follow(self, url: str, headers: Mapping[str, str]) -> Fetched:
        for _ in range(MAX_REDIRECTS + 1):
            target = self._check(url)
            async with self._open().get(target, allow_redirects=False, headers=headers) as response:
                if response.status == 304 and headers:
                    return Fetched(str(response.url), "", None, b"", not_modified=True)
                if response.status not in REDIRECTS:
                    return await self._read(response)
                location = response.headers.get("Location")
                if not location:
                    raise FetchError(f"HTTP {response.status} without a Location")
                url = urljoin(str(target), location)
        raise RefusedError(f"more than {MAX_REDIRECTS} redirects")

    def _check(self, url: str) -> URL:
        """The URL, if its scheme and its literal address may be fetched.

        aiohttp asks the resolver about names only, so that literal addresses are looked at here.
        """
        try:
            target = URL(url)
        except ValueError as error:
            raise RefusedError(f"not an address: {error}"[:300]) from error
        if target.scheme not in ("http", "https") or not target.host:
            raise RefusedError(f"scheme {target.scheme or 'none'!r} is not http or https")
        if target.user is not None or target.password is not None:
            raise RefusedError("the address carries credentials")
        host = target.host
        checked = f"{host}:{target.port}" in self._allowed or not _is_literal(host)
        if not checked and not is_public_address(host):
            raise RefusedError(f"{host} is not a public address")
        return target

    async def _read(self, response: aiohttp.ClientResponse) -> Fetched:
        if response.status == 429 or response.status >= 500:
            raise UnavailableError(f"HTTP {response.status}")
        if response.status == 410:
            raise GoneError("HTTP 410")
        if response.status != 200:
            raise FetchError(f"HTTP {response.status}")
        if (response.content_length or 0) > self._max_bytes:
            raise RefusedError(
                f"{response.content_length} bytes announced, {self._max_bytes} allowed"
            )
        body = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_bytes:
                # Not read to its end, so the connection cannot serve another request.
                response.close()
                raise RefusedError(f"more than {self._max_bytes} bytes once unpacked")
        return Fetched(
            str(response.url),
            response.content_type,
            response.charset,
            bytes(body),
            response.headers.get("ETag", ""),
            response.headers.get("Last-Modified", ""),
        )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=GuardedResolver(self._allowed), limit=32, limit_per_host=8
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": USER_AGENT},
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            )
        return self._session


def _is_literal(host: str) -> bool:
    """Whether a host is an address rather than a name, old numeric spellings included."""
    return ":" in host or host.replace(".", "").isdigit()
