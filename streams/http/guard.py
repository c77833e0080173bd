"""What keeps an address that a stranger wrote from reaching anything but the public internet.

Three looks, each sufficient for what it sees: at the URL (scheme, credentials, literal address),
at every address that its name resolves to, and at the address of each socket before it connects.
The last one sees all connections, however a URL was spelt, and there is no look-up after it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from streams.http.resolver import RESOLVER_THREADS
from streams.text.plain_text import clean

NAT64 = ipaddress.ip_network("64:ff9b::/96")
NOT_FOR_US = tuple(
    ipaddress.ip_network(network)
    for network in (
        # Public by the standard library's tables, but nobody's web server.
        "168.63.129.16/32",  # what a machine at Azure asks for its keys
        "192.0.0.0/24",
        "192.88.99.0/24",
        "64:ff9b:1::/48",
        "3fff::/20",
        "fec0::/10",
    )
)


class FetchError(Exception):
    """A fetch that did not work; the message says why, fit for a record's `reason`."""

    def __init__(self, message: str) -> None:
        # It may quote headers, whose bytes beyond ASCII no record could carry.
        super().__init__(clean(message)[:500])


class GoneError(FetchError):
    """What was asked for has been taken away for good, says its server."""


class RefusedError(FetchError):
    """A fetch that our own rules forbid: asking again will not help."""


class UnavailableError(FetchError):
    """A fetch that the network or the server failed: asking again later may help.

    ``until`` is when the host may be asked again, in Unix seconds; None if that is not known.
    ``asked`` is False where it was not asked at all, because it is to be left alone now.
    """

    def __init__(self, message: str, until: float | None = None, *, asked: bool = True) -> None:
        super().__init__(message)
        self.until = until
        self.asked = asked


def is_public_address(address: str) -> bool:
    """Whether an IP address is one of the public internet, IPv4 wrapped into IPv6 included."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in NAT64:  # how a network without IPv4 reaches all that has no IPv6
            return is_public_address(str(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)))
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if wrapped is not None and not is_public_address(str(wrapped)):
            return False
    if any(ip.version == network.version and ip in network for network in NOT_FOR_US):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def check_url(url: str | URL, allowed: frozenset[str]) -> URL:
    """The URL, if its scheme, its form and its literal address may be fetched; RefusedError if not.

    ``allowed`` are ``host:port`` pairs that may be reached although they are not public.
    """
    try:
        target = URL(url)
        port = target.port
    except (ValueError, TypeError) as error:
        raise RefusedError(f"not an address: {error}"[:300]) from error
    if target.scheme not in ("http", "https") or not target.raw_host:
        raise RefusedError(f"scheme {target.scheme or 'none'!r} is not http or https")
    if target.raw_user is not None or target.raw_password is not None:
        raise RefusedError("the address carries credentials")
    if not port:
        raise RefusedError("port 0 is nobody's")
    # The connector asks the resolver about names only.
    host = target.raw_host
    if _is_literal(host) and f"{host}:{port}" not in allowed and not is_public_address(host):
        raise RefusedError(f"{host} is not a public address")
    return target


def _is_literal(host: str) -> bool:
    """Whether a host is an address rather than a name, old numeric spellings included."""
    return ":" in host or host.replace(".", "").isdigit()


class GuardedResolver(AbstractResolver):
    """Resolves a name and lets it pass only if all its addresses may be reached.

    All, not some: a name with one private address among its public ones is a rebinding attempt
    or a mistake, and in both cases nothing of ours to talk to.
    """

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = allowed
        self._resolver = ThreadedResolver(cast("asyncio.AbstractEventLoop", RESOLVER_THREADS))
        self.excused: set[tuple[str, int]] = set()
        """Addresses and ports that an allowed name has resolved to."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name. Raises RefusedError if one of them may not be reached."""
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            if f"{host}:{port}" in self._allowed:
                self.excused.add((result["host"], port))
            elif not is_public_address(result["host"]):
                raise RefusedError(f"{host} resolves to {result['host']}, which is not public")
        return found

    async def close(self) -> None:
        """Give back what resolving holds; its threads stay, for all of the process."""
        await self._resolver.close()


def guarded_connector(allowed: frozenset[str]) -> aiohttp.TCPConnector:
    """Connections to public and to allowed addresses, whatever asks for them."""
    resolver = GuardedResolver(allowed)

    def open_socket(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        host, port = address[:2]
        excused = (host, port) in resolver.excused or f"{host}:{port}" in allowed
        if not excused and not is_public_address(host):
            raise RefusedError(f"{host} is not a public address")
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(
        resolver=resolver, limit=32, limit_per_host=8, socket_factory=open_socket
    )
