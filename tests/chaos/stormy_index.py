"""A demo index that misbehaves, in a thread of its own, and what became of its episodes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import requests
from aiohttp import web
from pydantic import SecretStr

from streams.demo.demo_catalogue import Catalogue, build_catalogue
from streams.demo.demo_faults import Pace
from streams.demo.demo_index import DEMO_KEY, DEMO_SECRET, DemoIndex
from streams.demo.demo_shapes import guid
from streams.demo.misbehaviour import Misbehaviour, Plan
from streams.ingest.core.episodes import rss_episode_id
from streams.ingest.sources.podcastindex import ATTEMPTS
from streams.kafka.message import Message
from streams.runtime.in_memory import MemoryRuntime
from tests.clocks import SkippingClock
from tests.served import Handler, served
from topology.graph import dead_letter_name, is_on
from topology.model import Graph, Stage
from topology.settings import Settings
from topology.tables import DOWNLOAD_RETRIES, TRANSCRIPT_RETRIES

STARTED_AT = time.time()
STALLED_S, SKIPPED_LIMIT_S = 3600.0, 4.0
"""Where time is skipped: nobody waits for the one, and the other is no other sleep's length."""
PACE = Pace(slow_s=0.05, stall_s=2.5, retry_after_s=1)
RETRY_S = (0.1, 0.3, 0.6, 1.2, 2.4)

TELLING = {"source-hosts"}
"""Topics that say something all the time, whether or not there is something new."""

FAST: dict[str, Any] = {
    # Shorter than a stalled answer, longer than a slow one also where the machine is busy: an
    # answer that is given up although it is on its way is asked for twice.
    "fetch_timeout_s": 1.5,
    "fetch_backoff_s": 0.02,
    "fetch_max_bytes": 2_000_000,
    "fetch_rest_s": 0.001,
    "discover_interval_s": 0.2,
    "fetch_retry_s": RETRY_S,
}
"""Settings with which a storm is over soon."""

TRIES = 1 + len(RETRY_S)
MOST_ATTEMPTS = ATTEMPTS * TRIES
"""The retry rule: nothing is asked for more often before it is given up."""


class StormyIndex:
    """Serves until the end of the block; without a plan it behaves. New episodes never come."""

    def __init__(
        self,
        plan: Plan | None,
        shows: int | None = None,
        *,
        skipping: bool = False,
    ) -> None:
        """``skipping``: the workers go by ``clock``, and nobody waits for what stalls."""
        catalogue = catalogue_of(shows)
        self._stalls = Stalls()
        self.clock = SkippingClock(SKIPPED_LIMIT_S, self._stalls.count)
        self._limit = {"fetch_timeout_s": SKIPPED_LIMIT_S} if skipping else {}
        pace = PACE
        if skipping:
            now, sleep = self.clock.now, self._stalls.sleep
            pace = replace(PACE, stall_s=STALLED_S, clock=now, sleep=sleep)
        self._shows = list(catalogue.shows)
        self._index = DemoIndex(
            catalogue,
            STARTED_AT,
            trickle_s=1e6,
            clock=pace.clock,
            misbehaviour=Misbehaviour(plan, pace) if plan else None,
        )
        self._serving = served(self._stalls.watched(self._index.app()))
        self.host = ""

    def __enter__(self) -> StormyIndex:
        self.host = self._serving.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._serving.__exit__(*error)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of an ingestion that has this index for PodcastIndex."""
        return {
            "podcastindex_url": f"http://{self.host}/api/1.0",
            "podcastindex_key": SecretStr(DEMO_KEY),
            "podcastindex_secret": SecretStr(DEMO_SECRET),
            "fetch_allow_hosts": self.host,
            **FAST,
            **self._limit,
        }

    @property
    def feed_settings(self) -> dict[str, Any]:
        """Settings of an ingestion that follows this index's feeds."""
        feeds = [self._feed(feed_id) for feed_id in self._shows]
        return {"rss_feeds": ",".join(feeds), "fetch_allow_hosts": self.host, **FAST, **self._limit}

    @property
    def feed_episode_ids(self) -> set[str]:
        """Ids of all episodes of its feeds, as ours spell them."""
        return {rss_episode_id(self._feed(e.feed_id), guid(e)) for e in self._index.visible()}

    def _feed(self, feed_id: int) -> str:
        return f"http://{self.host}/feeds/{feed_id}.xml"

    @property
    def episode_ids(self) -> set[str]:
        """Ids of all of its episodes, as ours spell them."""
        return {f"pi:{episode.episode_id}" for episode in self._index.visible()}

    def counts(self) -> dict[str, dict[str, int]]:
        """`requests`, `good`, `early` by path and query, and `faults` by name."""
        found: dict[str, dict[str, int]] = requests.get(
            f"http://{self.host}/demo/requests", timeout=10
        ).json()
        return found


class Stalls:
    """The requests that a server lets stall, as long as somebody waits for their answers."""

    def __init__(self) -> None:
        self._asked: ContextVar[web.Request] = ContextVar("asked")
        self._stalled: list[web.Request] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def watched(self, app: web.Application) -> web.Application:
        """The same application; its faults are to `sleep` here."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._loop = asyncio.get_running_loop()
            self._asked.set(request)
            return await handler(request)

        app.middlewares.insert(0, middleware)
        return app

    async def sleep(self, seconds: float) -> None:
        """The wait of an answer."""
        if seconds < STALLED_S:
            return await asyncio.sleep(seconds)
        request = self._asked.get()
        self._stalled.append(request)
        try:
            while request.transport is not None:
                await asyncio.sleep(0.01)
        finally:
            self._stalled.remove(request)

    async def count(self) -> int:
        """How many there are, from any event loop."""

        async def counted() -> int:
            await asyncio.sleep(0)
            return sum(request.transport is not None for request in self._stalled)

        if self._loop is None:
            return 0
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(counted(), self._loop))


def catalogue_of(shows: int | None) -> Catalogue:
    """The demo's catalogue, or the first so many shows of it."""
    whole = build_catalogue()
    chosen = dict(list(whole.shows.items())[:shows])
    return Catalogue(chosen, {k: e for k, e in whole.episodes.items() if e.feed_id in chosen})


def waits(runtime: MemoryRuntime) -> bool:
    """Whether something is to be tried again."""
    queues = {"download_episodes": DOWNLOAD_RETRIES, "fetch_transcripts": TRANSCRIPT_RETRIES}
    return any(runtime.rows(stage, table) for stage, table in queues.items())


def check_same(calm: Outcome, killed: Outcome) -> None:
    """What kills leave is what a calm run leaves.

    Tries that met an open circuit count: a transcript may fail in one run only, or come by the
    second best link.
    """
    assert calm.episodes == killed.episodes
    assert calm.transcripts.keys() == killed.transcripts.keys()
    pairs = [(calm.transcripts[key], killed.transcripts[key]) for key in calm.transcripts]
    alike = [
        (one, other)
        for one, other in pairs
        if "failed" not in (one["status"], other["status"]) and one["url"] == other["url"]
    ]
    assert len(alike) > 0.3 * len(pairs)  # by how many circuits were open
    for one, other in alike:
        assert one == other


def check_counts(counts: dict[str, dict[str, int]], found: Outcome, lives: int) -> None:
    """An episode's details and its transcripts are asked for until they come, and then no more:
    a transcript once, details once for each time that those of its show are tried.

    Each of the workers' ``lives`` may begin anew, and so does an id that was given up before.
    """
    assert not any(address.startswith("/audio/") for address in counts["requests"])
    for address, asked in counts["requests"].items():
        if known := re.search(r"/transcripts/(\d+)|/episodes/byid.*[?&]id=(\d+)", address):
            given_up = len(found.dead.get(f"pi:{known[1] or known[2]}", ()))
            assert asked <= MOST_ATTEMPTS * (lives + given_up), address
            # Details wait for those of the show: where these cannot be had, both are tried again.
            good = 1 if known[1] else TRIES
            assert counts["good"].get(address, 0) <= good * (lives + given_up), address


def newest_ids(count: int, shows: int | None = None) -> frozenset[int]:
    """The newest episodes: those that an index lists as recent."""
    known = [e for e in catalogue_of(shows).episodes.values() if e.age_s is not None]
    return frozenset(e.episode_id for e in sorted(known, key=lambda e: e.age_s or 0)[:count])


def ingestion_stages(graph: Graph) -> list[Stage]:
    """The stages of the process that discovers episodes, without those that are off by default."""
    worker = graph.stages["discover_episodes"].worker
    stages = [stage for stage in graph.stages.values() if stage.worker == worker]
    return [stage for stage in stages if is_on(stage, Settings())]


@dataclass(frozen=True)
class Outcome:
    """What a log says in the end: the newest record per id, and why others were put aside, each
    time they were."""

    episodes: dict[str, dict[str, Any]]
    transcripts: dict[str, dict[str, Any]]
    dead: dict[str, list[str]]

    def at(self, name: str, host: str) -> Outcome:
        """The same of an index at another address."""

        def moved(value: Any) -> Any:
            if isinstance(value, str):
                return value.replace(host, name)
            if isinstance(value, dict):
                return {key: moved(inner) for key, inner in value.items()}
            return [moved(inner) for inner in value] if isinstance(value, list) else value

        return Outcome(moved(self.episodes), moved(self.transcripts), moved(self.dead))

    def without(self, ids: Iterable[str]) -> Outcome:
        """The rest; why something was put aside may differ from run to run, and so may how often
        and from which links a transcript was asked for before it came."""
        left = self.episodes.keys() - set(ids)
        history = {"attempt", "tried"}
        return Outcome(
            {key: self.episodes[key] for key in left},
            {
                key: {name: v for name, v in record.items() if name not in history}
                for key, record in self.transcripts.items()
                if key in left
            },
            {},
        )


def outcome(
    graph: Graph,
    records: Callable[[str], list[Message]],
    decode: Callable[[str, bytes | None], Any],
) -> Outcome:
    """What the topics hold; ``records(topic)`` are in the order of the log within a partition."""

    def newest(topic: str) -> dict[str, dict[str, Any]]:
        found = {}
        for message in records(topic):
            found[(message.key or b"").decode()] = message.value
        return {k: decode(topic, value) for k, value in found.items() if value is not None}

    dead: dict[str, list[str]] = {}
    for topic in {topic for stage in ingestion_stages(graph) for topic in stage.consumes}:
        for message in records(dead_letter_name(topic)):
            why = message.header("__connect.errors.exception.message") or b""
            dead.setdefault((message.key or b"").decode(), []).append(why.decode())
    return Outcome(newest("episode-metadata"), newest("episode-transcripts"), dead)
