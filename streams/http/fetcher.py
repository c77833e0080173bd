"""Fetches addresses that strangers chose, without letting them choose what we may reach.

Feeds and transcripts name their own URLs. Only http and https to public addresses are fetched;
the address that was checked is the one connected to (no second look-up that could answer
otherwise); each redirect is checked like a first request; bodies must be of a type that was
asked for, and are capped as announced, as sent and as unpacked; and the whole fetch has one time
limit. Proxies from the environment are not used: a proxy would resolve names where we cannot
check them. How often a host is asked is up to `streams.http.rate_limits`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urljoin

import aiohttp

from streams.http.decompress import ENCODINGS, TooLargeError, Unpacker, UnpackError, unpack_file
from streams.http.guard import (
    FetchError,
    GoneError,
    RefusedError,
    UnavailableError,
    check_url,
    guarded_connector,
)
from streams.http.media import ANY_DOCUMENT, Accept
from streams.http.rate_limits import HostRateLimiter, HostUnavailableError
from streams.http.time_limits import time_limit
from streams.runtime.clock import Clock
from topology.settings import Settings

USER_AGENT = "podstream/0.1 (+https://podcastindex.org)"
MAX_REDIRECTS = 5
CHUNK_BYTES = 65_536
REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Fetched:
    """A body, its final ``url``, and the ``content_type`` and ``charset`` the server named.

    ``etag`` and ``last_modified`` are what to send to be told next time that nothing is new;
    ``not_modified`` says that it is so, and the body is empty then.
    """

    url: str
    content_type: str
    charset: str | None
    body: bytes
    etag: str = ""
    last_modified: str = ""
    not_modified: bool = False


class GuardedFetcher:
    """An HTTP client for addresses that are not trusted.

    Connections are opened as needed and given back by ``close()`` or at the end of ``async with``;
    the fetcher may be used again afterwards.
    """

    def __init__(
        self,
        allow_hosts: Iterable[str] = (),
        max_bytes: int = 10_000_000,
        timeout_s: float = 20.0,
        rate_limiter: HostRateLimiter | None = None,
    ) -> None:
        """``allow_hosts`` are ``host:port`` pairs that may be reached although they are not public.

        ``max_bytes`` is for a body as sent and as unpacked, ``timeout_s`` for a whole fetch. The
        fetcher's clock is that of ``rate_limiter``, which is one without rates if none is given.
        """
        self._allowed = frozenset(allow_hosts)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._rate_limiter = rate_limiter or HostRateLimiter.unlimited()
        self.clock = self._rate_limiter.clock
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_settings(cls, settings: Settings, clock: Clock) -> GuardedFetcher:
        """A fetcher by the settings; all stages of a process share what they know of hosts."""
        return cls(
            settings.fetch_allow_hosts,
            settings.fetch_max_bytes,
            settings.fetch_timeout_s,
            HostRateLimiter.of(settings, clock),
        )

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
        """Give the connections back."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(
        self, url: str, *, etag: str = "", last_modified: str = "", accept: Accept = ANY_DOCUMENT
    ) -> Fetched:
        """The body behind ``url``, unpacked; none if it is still the one with this ``etag`` or
        ``last_modified``.

        Raises RefusedError where our rules forbid it, UnavailableError where network, server or
        time failed, GoneError for a 410, FetchError where the server has no such thing.
        """
        conditions = {"If-None-Match": etag, "If-Modified-Since": last_modified}
        headers = {name: value for name, value in conditions.items() if value}
        async with self.opened(url, headers, self._timeout_s) as response:
            return await self._read(response, accept, conditional=bool(headers))

    @asynccontextmanager
    async def opened(
        self, url: str, headers: Mapping[str, str], timeout_s: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response behind ``url`` after its redirects, its body not yet read and packed as
        it came. ``timeout_s`` is for the answers and for what is done within the block, not for
        waiting until the hosts may be asked. Raises as `get` does.
        """
        left_s = timeout_s
        try:
            for _ in range(MAX_REDIRECTS + 1):
                target = check_url(url, self._allowed)
                async with self._rate_limiter.permit(target) as permit:
                    started = self.clock.monotonic()
                    async with (
                        time_limit(self.clock, left_s),
                        self._open().get(target, headers=headers, allow_redirects=False) as answer,
                    ):
                        wait_s = permit.answered(answer.status, answer.headers.get("Retry-After"))
                        if answer.status not in REDIRECTS:
                            self._check_status(answer.status, wait_s)
                            yield answer
                            return
                        location = answer.headers.get("Location")
                        if not location:
                            raise FetchError(f"HTTP {answer.status} without a Location")
                        url = urljoin(str(target), location)
                    left_s = max(left_s - (self.clock.monotonic() - started), 0.0)
            raise RefusedError(f"more than {MAX_REDIRECTS} redirects")
        except HostUnavailableError as error:
            raise UnavailableError(str(error), error.until, asked=False) from error
        except TimeoutError:
            raise UnavailableError(f"no answer within {timeout_s:g} s") from None
        except ValueError as error:  # InvalidURL is one
            raise RefusedError(f"not an address: {error}"[:300]) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"{type(error).__name__}: {error}"[:300]) from error

    def _check_status(self, status: int, wait_s: float | None) -> None:
        if status == 429 or status >= 500:
            until = None if wait_s is None else self.clock.now() + wait_s
            raise UnavailableError(f"HTTP {status}", until)
        if status == 410:
            raise GoneError("HTTP 410: taken away for good")

    async def _read(
        self, response: aiohttp.ClientResponse, accept: Accept, *, conditional: bool
    ) -> Fetched:
        url, headers = str(response.url), response.headers
        etag, last_modified = _ascii(headers.get("ETag")), _ascii(headers.get("Last-Modified"))
        if response.status == 304 and conditional:
            return Fetched(url, "", None, b"", etag, last_modified, not_modified=True)
        if response.status != 200:
            raise FetchError(f"HTTP {response.status}")
        if (why := accept.refusal(headers.get("Content-Type", ""))) is not None:
            raise RefusedError(why)
        try:
            body = unpack_file(await self._body(response), self._max_bytes)
        except (TooLargeError, UnpackError) as error:
            # Not read to its end, so the connection cannot serve another request.
            response.close()
            if isinstance(error, TooLargeError):
                raise RefusedError(f"too large: {error} (FETCH_MAX_BYTES)") from error
            raise UnavailableError(str(error)) from error
        mime, charset = _ascii(response.content_type), _ascii(response.charset) or None
        return Fetched(url, mime, charset, body, etag, last_modified)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        encoding = {"x-gzip": "gzip", "identity": "", "utf-8": ""}.get(encoding, encoding)
        if encoding and encoding not in ENCODINGS:
            raise RefusedError(f"packed as {encoding[:40]!r}, which was not asked for")
        announced, allowed = response.content_length or 0, self._max_bytes
        if announced > allowed:
            raise TooLargeError(f"it is {announced:,} bytes; {allowed:,} are allowed")
        unpacker, sent = Unpacker(encoding, allowed), 0
        async for piece in response.content.iter_chunked(CHUNK_BYTES):
            sent += len(piece)
            if sent > allowed:
                raise TooLargeError(f"it is larger than the {allowed:,} bytes allowed")
            unpacker.feed(piece)
        return unpacker.body()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=guarded_connector(self._allowed),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": ", ".join(ENCODINGS)},
                # The time limit of a fetch is set around it.
                timeout=aiohttp.ClientTimeout(),
                auto_decompress=False,
            )
        return self._session


def _ascii(value: str | None) -> str:
    """A header's value, unless it has bytes that can neither be kept in a record nor sent back."""
    return value if value and value.isascii() else ""
