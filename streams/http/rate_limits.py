"""How often a host is asked: a rate for each, waits it asks for, and rest after many failures.

All stages of a process share what they know and what they may: one `HostRateLimiter` a process. A
rate is for the whole deployment. A worker uses the part of it that equals its part of the
partitions, averaged over all stages that ask hosts of this kind, so that the workers together
stay below the rate however stages and partitions are spread over them.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError
from yarl import URL

from streams.http.circuit import FIRST_OPEN_S, HostState, host_record, retry_after_s
from streams.runtime.clock import Clock, SystemClock
from topology.graph import is_on
from topology.model import Outside
from topology.settings import Settings
from topology.stages import STAGES

PATIENCE_S = 5.0
"""Longest wait that a host asks for and that a request sits out; beyond it, it fails at once."""
HEARTBEAT_S = 20.0
"""What has not changed is said again this often: readers take silence for the worker's end."""
SHOWN_S = 600.0
"""How long a host without trouble is reported after its last request."""
MOST_HOSTS = 10_000
"""Hosts that are remembered, those asked last; all is forgotten of the others."""
INDEX_CONNECTIONS = 4


class HostUnavailableError(Exception):
    """A host may not be asked now; ``until`` is when it may, in Unix seconds."""

    def __init__(self, message: str, until: float) -> None:
        super().__init__(message)
        self.until = until


@dataclass(frozen=True)
class Limit:
    """What all workers together may do to one host of a ``kind``.

    ``rate`` is in requests a second, ``at_once`` the most requests under way at a time.
    """

    kind: Outside
    rate: float
    at_once: int


class RequestPermit:
    """The permission for one request to a host; whoever makes it reports its result here."""

    def __init__(self, state: HostState, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._succeeded: bool | None = None
        """None while nothing is known; still so at the end of a request that was cancelled."""

    def answered(self, status: int, retry_after: str | None = None) -> float | None:
        """The host has answered with an HTTP status, and a Retry-After header if it has one.

        Gives how long it asks to be left alone, in seconds; None if it does not ask.
        """
        if status != 429 and status < 500:
            self._succeeded = True
            return None
        now = self._clock.now()
        self._state.rejected += status == 429
        wait_s = retry_after_s(retry_after, now)
        if wait_s is not None:
            self._state.asked(now, wait_s)
        self.failed(f"HTTP {status}")
        return wait_s

    def failed(self, error: str) -> None:
        """The host, or the way to it, has failed, be it in the middle of its answer."""
        self._succeeded = False
        self._state.failed(self._clock.now(), error)

    def end(self) -> None:
        """The request is over."""
        if self._succeeded:
            self._state.succeeded()
        elif self._succeeded is None:
            self._state.cancelled()


class _Gate:
    """The pace of one host on one event loop: so many requests at once, and evenly spaced, since
    a burst is what hosts complain of.

    The library for this, `aiolimiter`, takes no clock; hence these lines.
    """

    def __init__(self, clock: Clock, rate: float, at_once: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.rate = rate
        self._clock = clock
        self._at_once = asyncio.Semaphore(at_once)
        self._in_order = asyncio.Lock()
        self._free_at = clock.monotonic()

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Wait for room and for the next slot; who is cancelled meanwhile takes neither."""
        async with self._at_once:
            async with self._in_order:
                await self._clock.sleep(self._free_at - self._clock.monotonic())
                self._free_at = self._clock.monotonic() + 1 / self.rate
            yield


@dataclass
class _Host:
    """What is kept of a host, and what was told of it last, at ``told_at`` (Unix seconds)."""

    state: HostState
    gate: _Gate | None = None
    """None for a host without a rate."""
    told: dict[str, Any] = field(default_factory=dict)
    told_at: float = 0.0


class HostRateLimiter:
    """The hosts that this process asks, and its part of what they may be asked."""

    def __init__(
        self,
        limit_of: Callable[[URL], Limit | None],
        users: Mapping[Outside, int],
        clock: Clock,
        rest_s: float = FIRST_OPEN_S,
    ) -> None:
        """``limit_of(url)`` is None for no limit; ``users``: how many stages of the whole
        deployment ask hosts of each kind; ``rest_s``: the first rest of a host that failed."""
        self.clock = clock
        self._limit_of = limit_of
        self._users = users
        self._rest_s = rest_s
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._stages: dict[str, tuple[tuple[Outside, ...], Callable[[], float], float]] = {}
        """By stage: what it reaches, its owned fraction now, and the last one that was not 0."""
        self._reporter = ""

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> HostRateLimiter:
        """The one of this process, which is the one of these settings; the first clock counts."""
        key = id(settings)
        if key not in _OF_PROCESS:
            rest_s = settings.fetch_rest_s
            _OF_PROCESS[key] = cls(limits(settings), users(settings), clock, rest_s)
            weakref.finalize(settings, _OF_PROCESS.pop, key, None)
        return _OF_PROCESS[key]

    @classmethod
    def unlimited(cls, clock: Clock | None = None) -> HostRateLimiter:
        """Circuits and asked waits, but no rates; by the system's clock if none is given."""
        return cls(lambda url: None, {}, clock or SystemClock())

    def join(
        self, stage: str, reaches: tuple[Outside, ...], owned_fraction: Callable[[], float]
    ) -> bool:
        """Count a stage in; ``owned_fraction()`` is its part of the partitions, 0 to 1.

        Gives whether it is the first one, which is to report.
        """
        self._stages[stage] = (reaches, owned_fraction, 0.0)
        self._reporter = self._reporter or stage
        return self._reporter == stage

    def part(self, kind: Outside) -> float:
        """This worker's part of the rates of a kind of hosts, 0.01 to 1."""
        total, joined = 0.0, 0
        for stage, (reaches, owned_fraction, last) in self._stages.items():
            if kind in reaches:
                # While partitions move, what is under way goes on at the pace it had.
                owned = owned_fraction() or last
                self._stages[stage] = (reaches, owned_fraction, owned)
                total, joined = total + owned, joined + 1
        if not joined:
            return 1.0
        return max(total / max(self._users.get(kind, 0), joined), 0.01)

    @asynccontextmanager
    async def permit(
        self, url: URL, patience_s: float = PATIENCE_S
    ) -> AsyncIterator[RequestPermit]:
        """Wait until a request to the URL's host may go out; it is made within the block.

        Raises HostUnavailableError at once while the host's circuit is open, or if it has asked
        for a wait that is longer than ``patience_s``. A network error, a timeout or a cut body
        within the block counts as the host's failure.
        """
        host = self._host(url)
        await self._wait(host.state, patience_s)
        async with host.gate.entered() if host.gate else nullcontext():
            # Others may have learnt meanwhile what this request need not find out.
            await self._wait(host.state, patience_s)
            async with self._request(host.state) as permit:
                yield permit

    @asynccontextmanager
    async def _request(self, state: HostState) -> AsyncIterator[RequestPermit]:
        state.begin(self.clock.now())
        permit = RequestPermit(state, self.clock)
        try:
            yield permit
        except (ClientError, TimeoutError, OSError) as error:
            permit.failed(f"{type(error).__name__}: {error}".rstrip(": "))
            raise
        finally:
            permit.end()

    async def _wait(self, state: HostState, patience_s: float) -> None:
        while (why := state.refusal(now := self.clock.now())) is not None:
            asked_s = state.asked_until - now
            if state.circuit(now) != "closed" or asked_s > patience_s:
                raise HostUnavailableError(why, max(state.next_at(), now))
            await self.clock.sleep(asked_s)

    def _host(self, url: URL) -> _Host:
        """The host of a URL, with its gate at the rate that is this worker's now."""
        origin, limit = origin_of(url), self._limit_of(url)
        host = self._hosts.pop(origin, None) or _Host(HostState(origin, self._rest_s))
        self._hosts[origin] = host
        if len(self._hosts) > MOST_HOSTS:
            self._hosts.popitem(last=False)
        if limit is None:
            host.gate = None
            return host
        rate, gate = limit.rate * self.part(limit.kind), host.gate
        if gate is None or gate.rate != rate or gate.loop is not asyncio.get_running_loop():
            host.gate = _Gate(self.clock, rate, limit.at_once)
        return host

    def report(self, worker: str) -> Iterator[dict[str, Any]]:
        """`source_host` records of the hosts in trouble or used lately, if there is news of them;
        hosts that are neither are forgotten."""
        now = self.clock.now()
        for origin, host in list(self._hosts.items()):
            if not host.state.is_troubled(now) and now - host.state.last_used > SHOWN_S:
                del self._hosts[origin]
                continue
            record = host_record(host.state, worker, host.gate.rate if host.gate else None, now)
            is_news = host.told != record | {"at": host.told.get("at")}
            if is_news or now - host.told_at >= HEARTBEAT_S:
                host.told, host.told_at = record, now
                yield record


_OF_PROCESS: dict[int, HostRateLimiter] = {}


def origin_of(url: URL) -> str:
    """A host, with its port where that is not its scheme's own."""
    host = url.raw_host or ""
    return host if url.is_default_port() else f"{host}:{url.explicit_port}"


def host_of(address: str) -> str:
    """The host of an address, as `HostRateLimiter` tells hosts apart; empty if it names none."""
    try:
        url = URL(address)
    except ValueError:
        return ""
    return origin_of(url) if url.raw_host else ""


def limits(settings: Settings) -> Callable[[URL], Limit | None]:
    """The limits of the settings: none on this machine and on hosts the operator allows, one for
    the index, one for each stranger's host."""
    index = origin_of(URL(settings.podcastindex_url))
    at_index = Limit("index", settings.podcastindex_rate, INDEX_CONNECTIONS)
    at_others = Limit("web", settings.fetch_host_rate, settings.fetch_host_connections)
    own = frozenset(settings.fetch_allow_hosts)

    def limit_of(url: URL) -> Limit | None:
        host = url.raw_host or ""
        loopback = host in ("localhost", "::1") or host.startswith("127.")
        if loopback or f"{url.host}:{url.port}" in own:
            return None
        return at_index if origin_of(url) == index else at_others

    return limit_of


def users(settings: Settings) -> dict[Outside, int]:
    """How many stages of the deployment ask hosts of each kind."""
    running = [s for s in STAGES if is_on(s, settings)]
    kinds: tuple[Outside, ...] = ("index", "web")
    return {kind: sum(kind in stage.reaches for stage in running) for kind in kinds}
