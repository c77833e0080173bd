"""How often a host is asked: a rate for each, waits it asks for, and rest after many failures.

All stages of a process share what they know and what they may: one `HostRateLimiter` a process. A
rate is for the whole deployment. A worker uses the part of it that equals its part of the
partitions, averaged over all stages that ask hosts of this kind, so that the workers together
stay below the rate however stages and partitions are spread over them.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientError
from aiolimiter import AsyncLimiter
from yarl import URL

from streams.http.circuit import FIRST_OPEN_S, HostState, host_record, retry_after_s
from streams.runtime.context import Context
from topology.graph import is_on
from topology.model import Outside
from topology.settings import Settings
from topology.stages import declare_stages

PATIENCE_S = 5.0
"""Longest wait that a host asks for and that a request sits out; beyond it, it fails at once."""
REPORT_EVERY_S = 5.0
HEARTBEAT_S = 20.0
"""What has not changed is said again this often: readers take silence for the worker's end."""
SHOWN_S = 600.0
"""How long a host without trouble is reported after its last request."""
MOST_HOSTS = 10_000
INDEX_CONNECTIONS = 4


class HostUnavailableError(Exception):
    """A host may not be asked now; ``until`` is when it may, in Unix seconds."""

    def __init__(self, message: str, until: float) -> None:
        super().__init__(message)
        self.until = until


@dataclass(frozen=True)
class Limit:
    """What all workers together may do to one host; ``rate`` is in requests a second."""

    kind: Outside
    rate: float
    at_once: int


class RequestPermit:
    """One request to a host; whoever makes it says what came of it."""

    def __init__(self, state: HostState, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock
        self._came: bool | None = None
        """Whether it went well; None while nothing is known, which stays so if we gave up."""

    def answered(self, status: int, retry_after: str | None = None) -> float | None:
        """The host has answered; how long it asks to be left alone, in seconds, if it does."""
        if status != 429 and status < 500:
            self._came = True
            return None
        now = self._clock()
        self._state.rejected += status == 429
        wait_s = retry_after_s(retry_after, now)
        if wait_s is not None:
            self._state.asked(now, wait_s)
        self.failed(f"HTTP {status}")
        return wait_s

    def failed(self, error: str) -> None:
        """The host, or the way to it, has failed, be it in the middle of its answer."""
        self._came = False
        self._state.failed(self._clock(), error)

    def end(self) -> None:
        if self._came:
            self._state.succeeded()
        elif self._came is None:
            self._state.left()


class _Gate:
    """The pace of one host on one event loop."""

    def __init__(self, rate: float | None, at_once: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.rate = rate
        # One at a time, evenly spaced: a burst is what hosts complain of.
        self.limiter = AsyncLimiter(1, 1 / rate) if rate else None
        self.at_once = asyncio.Semaphore(at_once) if rate else None


class HostRateLimiter:
    """The hosts that this process asks, and its part of what they may be asked."""

    def __init__(
        self,
        limit_of: Callable[[URL], Limit | None],
        users: Mapping[Outside, int],
        clock: Callable[[], float] = time.time,
        rest_s: float = FIRST_OPEN_S,
    ) -> None:
        """``limit_of(url)`` is None for no limit; ``users``: how many stages of the whole
        deployment ask hosts of each kind; ``rest_s``: the first rest of a host that failed."""
        self._limit_of = limit_of
        self._users = users
        self._clock = clock
        self._rest_s = rest_s
        self._hosts: OrderedDict[str, HostState] = OrderedDict()
        self._gates: dict[str, _Gate] = {}
        self._shares: dict[str, tuple[tuple[Outside, ...], Callable[[], float], float]] = {}
        self._reporter = ""
        self._told: dict[str, tuple[dict[str, Any], float]] = {}

    @classmethod
    def of(cls, settings: Settings) -> HostRateLimiter:
        """The one of this process, which is the one of these settings."""
        key = id(settings)
        if key not in _OF_PROCESS:
            _OF_PROCESS[key] = cls(limits(settings), users(settings), rest_s=settings.fetch_rest_s)
            weakref.finalize(settings, _OF_PROCESS.pop, key, None)
        return _OF_PROCESS[key]

    @classmethod
    def unlimited(cls) -> HostRateLimiter:
        """Circuits and asked waits, but no rates."""
        return cls(lambda url: None, {})

    def join(self, stage: str, reaches: tuple[Outside, ...], share: Callable[[], float]) -> bool:
        """Count a stage in; ``share()`` is its owned part of the partitions. Whether it is the
        first one, which is to report."""
        self._shares[stage] = (reaches, share, 0.0)
        self._reporter = self._reporter or stage
        return self._reporter == stage

    def part(self, kind: Outside) -> float:
        """This worker's part of the rates of a kind of hosts."""
        total, joined = 0.0, 0
        for stage, (reaches, share, last) in self._shares.items():
            if kind in reaches:
                # While partitions move, what is under way goes on at the pace it had.
                now = share() or last
                self._shares[stage] = (reaches, share, now)
                total, joined = total + now, joined + 1
        if not joined:
            return 1.0
        return max(total / max(self._users.get(kind, 0), joined), 0.01)

    @asynccontextmanager
    async def permit(
        self, url: URL, patience_s: float = PATIENCE_S
    ) -> AsyncIterator[RequestPermit]:
        """Wait for the turn of a request to the URL's host.

        Raises HostUnavailableError at once while the host's circuit is open, or if it has asked
        for a wait that is longer than ``patience_s``. A network error, a timeout or a cut body
        within the block counts as the host's failure.
        """
        origin = origin_of(url)
        state, gate = self._state(origin), self._gate(origin, self._limit_of(url))
        await self._wait(state, patience_s)
        if gate.at_once is not None:
            await gate.at_once.acquire()
        try:
            if gate.limiter is not None:
                await gate.limiter.acquire()
            # Others may have learnt meanwhile what this request need not find out.
            await self._wait(state, patience_s)
            state.begin(self._clock())
            permit = RequestPermit(state, self._clock)
            try:
                yield permit
            except (ClientError, TimeoutError, OSError) as error:
                permit.failed(f"{type(error).__name__}: {error}".rstrip(": "))
                raise
            finally:
                permit.end()
        finally:
            if gate.at_once is not None:
                gate.at_once.release()

    async def _wait(self, state: HostState, patience_s: float) -> None:
        while (why := state.refusal(now := self._clock())) is not None:
            asked_s = state.asked_until - now
            if state.circuit(now) != "closed" or asked_s > patience_s:
                raise HostUnavailableError(why, max(state.next_at(), now))
            await asyncio.sleep(asked_s)

    def _state(self, origin: str) -> HostState:
        state = self._hosts.pop(origin, None) or HostState(origin, self._rest_s)
        self._hosts[origin] = state
        if len(self._hosts) > MOST_HOSTS:
            oldest, _ = self._hosts.popitem(last=False)
            self._gates.pop(oldest, None)
        return state

    def _gate(self, origin: str, limit: Limit | None) -> _Gate:
        rate = limit.rate * self.part(limit.kind) if limit else None
        gate = self._gates.get(origin)
        if gate is None or gate.rate != rate or gate.loop is not asyncio.get_running_loop():
            gate = self._gates[origin] = _Gate(rate, limit.at_once if limit else 0)
        return gate

    def report(self, worker: str) -> Iterator[dict[str, Any]]:
        """`source_host` records of the hosts in trouble or used lately, if there is news of them;
        hosts that are neither are forgotten."""
        now = self._clock()
        for origin, state in list(self._hosts.items()):
            if not state.troubled(now) and now - state.last_used > SHOWN_S:
                self._hosts.pop(origin)
                self._gates.pop(origin, None)
                self._told.pop(origin, None)
                continue
            gate = self._gates.get(origin)
            record = host_record(state, worker, gate.rate if gate else None, now)
            said, at = self._told.get(origin, ({}, 0.0))
            if said != record | {"at": said.get("at")} or now - at >= HEARTBEAT_S:
                self._told[origin] = record, now
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
    running = [s for s in declare_stages(settings.event_partitions) if is_on(s, settings)]
    kinds: tuple[Outside, ...] = ("index", "web")
    return {kind: sum(kind in stage.reaches for stage in running) for kind in kinds}


def report_hosts(context: Context) -> None:
    """Count the stage in, and let the first of the process tell how its hosts do."""
    rate_limiter = HostRateLimiter.of(context.settings)
    stage = context.stage
    if not rate_limiter.join(stage.name, stage.reaches, context.owned_fraction):
        return
    worker = worker_name(context.settings)

    @context.timer(REPORT_EVERY_S)
    async def tell_hosts() -> None:
        for record in rate_limiter.report(worker):
            await context.send("source-hosts", record, key=f"{worker}|{record['host']}")


def worker_name(settings: Settings) -> str:
    """This machine and the worker's own folder on it, so that a restart keeps the name."""
    folder = Path(os.environ.get("F_DATADIR", settings.podstream_home / "faust"))
    return f"{socket.gethostname()}/{folder.name}"
