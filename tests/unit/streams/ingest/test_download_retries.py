"""`download_episodes` where the index is not available: on the in-memory log, over real HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from schemas.codec import RecordCodec
from streams.demo.demo_catalogue import DemoEpisode, build_catalogue
from streams.demo.demo_index import DEMO_KEY, DEMO_SECRET, DemoIndex
from streams.http.retries import decode_entry
from streams.ingest.download_episodes import REFS_AT_ONCE
from streams.runtime.in_memory import MemoryRuntime, MemoryStateLog
from tests.clocks import StandingClock
from tests.served import served
from topology.graph import build_graph
from topology.settings import Settings
from topology.tables import DOWNLOAD_RETRIES

STAGE = "download_episodes"
BY_ID = "/api/1.0/episodes/byid"
LISTING = "/api/1.0/episodes/byfeedid"
FEED = "/api/1.0/podcasts/byfeedid"
RETRY_S = 60.0
PAUSE_S = 1.3 * RETRY_S
"""Long enough for what failed to be due, and for hosts to have had their rest."""


class Index:
    """The demo index on loopback, parts of which a test breaks."""

    def __init__(self) -> None:
        self.clock = StandingClock()
        self._demo = DemoIndex(
            build_catalogue(), self.clock.now(), trickle_s=1e6, clock=self.clock.now
        )
        self.broken: Callable[[web.Request], bool] = lambda _: False
        self.asked: Counter[str] = Counter()
        self.address = ""
        self.held = threading.Event()
        """Somebody asks while answers are kept back."""
        self.goes_on = threading.Event()
        self.goes_on.set()

    @property
    def episodes(self) -> list[DemoEpisode]:
        return self._demo.visible()

    @web.middleware
    async def _break(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked[request.path] += 1
        if not self.goes_on.is_set():
            self.held.set()
            await asyncio.to_thread(self.goes_on.wait, 20)
        return web.Response(status=503) if self.broken(request) else await handler(request)

    def app(self) -> web.Application:
        app = self._demo.app()
        app.middlewares.insert(0, self._break)
        return app


@pytest.fixture
def index() -> Iterator[Index]:
    made = Index()
    with served(made.app()) as made.address:
        yield made


class Flow:
    """The stage; references go in, candidates by episode_id come out."""

    def __init__(self, index: Index, *intervals_s: float) -> None:
        self._index = index
        self.clock = index.clock
        self.runtime = MemoryRuntime(
            build_graph(2),
            clock=index.clock,
            settings=Settings(
                podcastindex_url=f"http://{index.address}/api/1.0",
                podcastindex_key=SecretStr(DEMO_KEY),
                podcastindex_secret=SecretStr(DEMO_SECRET),
                fetch_backoff_s=0.001,
                fetch_retry_s=intervals_s,
            ),
        )
        self.log = self.runtime.log
        self.context = self.runtime.start(STAGE)

    def refer(self, *episodes: DemoEpisode, **values: object) -> None:
        for episode in episodes:
            ref: dict[str, Any] = {
                "episode_id": f"pi:{episode.episode_id}",
                "source": "podcastindex",
                "feed_id": str(episode.feed_id),
                "source_id": str(episode.episode_id),
                "found_by": "recent",
                "found_at": datetime.fromtimestamp(self.clock.now(), UTC),
                **values,
            }
            self.log.append("episode-ids", ref, key=ref["episode_id"])

    def run_later(self, times: int = 1) -> None:
        """Run once what failed is due again, so many times."""
        for _ in range(times):
            self.clock.move(PAUSE_S)
            self.runtime.run()

    def run_until(self, done: Callable[[], bool], most_runs: int = 40) -> None:
        """Run again and again, each time once what failed is due."""
        for _ in range(most_runs):
            if done():
                return
            self.run_later()
        raise AssertionError(f"not done after {most_runs} runs")

    def candidates(self) -> list[tuple[str, dict[str, Any] | None]]:
        decode = self.log.wire.decode
        found = self.log.decoded("episode-candidates")
        return [
            (c["episode_id"], c["record"] and decode("episode-metadata", c["record"]))
            for c in found
        ]

    def waiting(self) -> dict[str, dict[str, Any]]:
        rows = self.runtime.rows(STAGE, DOWNLOAD_RETRIES)
        return {
            key.decode(): decode_entry("download_retry", value) for (_, key), value in rows.items()
        }

    def dead(self) -> list[str]:
        header = "__connect.errors.exception.message"
        return [(m.header(header) or b"").decode() for m in self.log.records("episode-ids.dlq")]


def test_an_outage_of_the_index_costs_no_episode_and_no_category(index: Index) -> None:
    flow = Flow(index, RETRY_S, RETRY_S, RETRY_S)
    index.broken = lambda _: True
    flow.refer(*index.episodes)
    flow.runtime.run(timers=False)
    assert len(flow.waiting()) == len(index.episodes)
    assert not flow.candidates()
    # Hardly any was asked for, and those that were not have not failed.
    assert [entry["attempt"] for entry in flow.waiting().values()].count(0) > 150
    flow.run_later(3)
    index.broken = lambda _: False
    flow.run_until(lambda: not flow.waiting())
    found = flow.candidates()
    assert len(found) == len(dict(found)) == len(index.episodes)
    assert {bool(record["categories"]) for _, record in found if record} >= {True}
    assert flow.dead() == []
    whole = Flow(index, RETRY_S)
    whole.refer(*index.episodes)
    whole.runtime.run()
    assert dict(whole.candidates()) == dict(found)


def test_what_never_comes_is_put_aside_once_after_the_last_try(index: Index) -> None:
    flow = Flow(index, RETRY_S, RETRY_S)
    poisoned, *others = index.episodes[:30]
    index.broken = lambda request: request.query.get("id") == str(poisoned.episode_id)
    flow.refer(poisoned, *others)
    flow.runtime.run(timers=False)
    assert flow.dead() == []
    flow.run_until(lambda: not flow.waiting())
    flow.runtime.run()
    assert len(flow.dead()) == 1
    (message,) = flow.log.records("episode-ids.dlq")
    (ref,) = (m for m in flow.log.records("episode-ids") if m.key == message.key)
    assert (message.key, message.value) == (f"pi:{poisoned.episode_id}".encode(), ref.value)
    assert message.header("__connect.errors.offset") == str(ref.offset).encode()
    assert message.header("__connect.errors.partition") == str(ref.partition).encode()
    assert len(dict(flow.candidates())) == len(others)


def test_a_feed_that_cannot_be_had_delays_its_episodes_and_does_not_lose_them(
    index: Index,
) -> None:
    one = index.episodes[0]
    late, never = Flow(index, RETRY_S), Flow(index, RETRY_S)
    index.broken = lambda request: request.path == FEED
    for flow in (late, never):
        flow.refer(one)
        flow.runtime.run(timers=False)
        assert "its feed, for the categories" not in flow.dead()
        assert flow.waiting()
        assert not flow.candidates()
    never.run_until(lambda: not never.waiting())
    index.broken = lambda _: False
    late.run_until(lambda: not late.waiting())
    ((_, whole),), ((_, bare),) = late.candidates(), never.candidates()
    assert whole
    assert bare
    assert whole["categories"]
    assert bare == whole | {"categories": []}
    assert never.dead() == late.dead() == []


def test_a_withdrawal_clears_what_waits(index: Index) -> None:
    flow = Flow(index, RETRY_S, RETRY_S)
    index.broken = lambda _: True
    flow.refer(index.episodes[0])
    flow.runtime.run(timers=False)
    assert flow.waiting()
    flow.refer(index.episodes[0], withdrawn=True)
    flow.runtime.run(timers=False)
    assert flow.waiting() == {}
    index.broken = lambda _: False
    flow.run_later()
    assert flow.candidates() == []
    assert flow.dead() == []


@pytest.mark.parametrize("known", [False, True])
def test_a_withdrawal_while_a_retry_is_under_way_is_not_overtaken(
    index: Index, known: bool
) -> None:
    flow, one = Flow(index, RETRY_S, RETRY_S), index.episodes[0]
    if known:
        flow.refer(one)
        flow.runtime.run(timers=False)
    index.broken = lambda _: True
    flow.refer(one, found_by="edit")
    flow.runtime.run(timers=False)
    assert flow.waiting()
    index.broken = lambda _: False
    handler = flow.context.agents["episode-ids"].handle
    flow.clock.move(PAUSE_S)

    async def both() -> None:
        index.goes_on.clear()
        retrying: asyncio.Task[Any] = asyncio.create_task(flow.context.timers[-1]())
        await asyncio.to_thread(index.held.wait, 20)
        flow.refer(one, withdrawn=True)
        await handler(flow.log.records("episode-ids")[-1:])
        index.goes_on.set()
        await retrying

    asked = index.asked.total()
    asyncio.run(both())
    assert index.asked.total() > asked
    assert [record is None for _, record in flow.candidates()] == ([False, True] if known else [])
    assert flow.waiting() == {}


def test_an_edit_takes_the_place_of_what_waits_and_a_repeat_does_not(index: Index) -> None:
    flow, one = Flow(index, RETRY_S), index.episodes[0]
    index.broken = lambda _: True
    flow.refer(one)
    flow.runtime.run()
    before = flow.waiting()
    flow.refer(one)
    flow.runtime.run()
    assert flow.waiting() == before
    flow.refer(one, found_by="edit")
    flow.runtime.run()
    (entry,) = flow.waiting().values()
    assert entry["offset"] == 2
    flow.runtime.crash(STAGE, redeliver=3)
    flow.runtime.run()
    assert list(flow.waiting().values()) == [entry]


@pytest.mark.parametrize("redeliver", [0, 3, 1000])
def test_a_kill_changes_nothing(index: Index, redeliver: int) -> None:
    flow, some = Flow(index, RETRY_S, RETRY_S, RETRY_S), index.episodes[:25]
    index.broken = lambda request: request.path != LISTING
    flow.refer(*some)
    flow.runtime.run(timers=False)
    assert len(flow.waiting()) == len(some)
    flow.runtime.crash(STAGE, redeliver=redeliver)
    flow.runtime.run(timers=False)
    assert len(flow.waiting()) == len(some)
    index.broken = lambda _: False
    flow.run_until(lambda: not flow.waiting())
    found = flow.candidates()
    assert len(found) == len(some)
    flow.runtime.crash(STAGE, redeliver=redeliver)
    flow.runtime.run()
    assert flow.candidates() == found
    assert flow.dead() == []


def test_a_kill_between_telling_and_remembering_asks_again(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, one = Flow(index, RETRY_S, RETRY_S), index.episodes[0]
    index.broken = lambda _: True
    flow.refer(one)
    flow.runtime.run(timers=False)
    index.broken = lambda _: False
    context, flush = flow.context, flow.context.flush

    async def killed() -> None:
        await flush()
        if flow.candidates():
            raise KeyboardInterrupt

    monkeypatch.setattr(context, "flush", killed)
    flow.clock.move(PAUSE_S)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(context.timers[-1]())
    assert flow.waiting()
    flow.runtime.crash(STAGE)
    flow.run_until(lambda: not flow.waiting())
    (first, second) = flow.candidates()
    assert first == second


@pytest.mark.parametrize("records", range(3))
def test_a_kill_at_any_record_of_state_hides_no_episode_from_its_withdrawal(
    index: Index, records: int
) -> None:
    """The identity, that it is there, that it waits no longer: one of them is not kept."""
    flow, one = Flow(index, RETRY_S, RETRY_S), index.episodes[0]
    index.broken = lambda _: True
    flow.refer(one)
    flow.runtime.run()
    index.broken = lambda _: False
    append, left = MemoryStateLog.append, iter(range(records))

    def dying(log: MemoryStateLog, *record: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return append(log, *record)

    with pytest.MonkeyPatch.context() as during:
        during.setattr(MemoryStateLog, "append", dying)
        with pytest.raises(KeyboardInterrupt):
            flow.run_later()
    flow.runtime.crash(STAGE)
    flow.run_until(lambda: not flow.waiting())
    assert flow.candidates()[-1][1] is not None
    flow.refer(one, withdrawn=True)
    flow.runtime.run()
    assert flow.candidates()[-1] == (f"pi:{one.episode_id}", None)


def own(flow: Flow, number: int = 1, **values: object) -> None:
    """A reference to an episode of a feed, which brings its record."""
    key = f"rss:{number}"
    episode = {"episode_id": key, "title": "t", "show_id": "s", "show_title": "s", "source": "rss"}
    codec = RecordCodec("episode-metadata", "episode", flow.log.registry)
    ref = {
        "episode_id": key,
        "source": "rss",
        "feed_id": "https://own.example/",
        "source_id": "1",
        "found_by": "feed",
        "found_at": datetime.fromtimestamp(flow.clock.now(), UTC),
        "record": codec.encode(episode | {"transcripts": []}),
        **values,
    }
    flow.log.append("episode-ids", ref, key=key)


def test_records_that_are_there_do_not_wait_for_those_to_be_fetched(index: Index) -> None:
    flow = Flow(index, RETRY_S)
    many = index.episodes[:60]
    flow.refer(*many)
    own(flow)
    index.goes_on.clear()
    agent = flow.context.agents["episode-ids"]
    messages = sorted(flow.log.records("episode-ids"), key=lambda m: (m.key or b"")[:3] != b"pi:")
    assert len(messages) == 61 <= agent.max_batch

    async def at_once() -> None:
        handling: asyncio.Task[Any] = asyncio.create_task(agent.handle(messages))
        await asyncio.to_thread(index.held.wait, 20)
        assert [key for key, _ in flow.candidates()] == ["rss:1"]
        index.goes_on.set()
        await handling

    asyncio.run(at_once())
    # A handler fetches a few; nobody waits for more.
    assert len(flow.candidates()) == 1 + REFS_AT_ONCE
    assert {entry["attempt"] for entry in flow.waiting().values()} == {0}
    asyncio.run(flow.context.timers[-1]())
    assert flow.waiting() == {}
    found = flow.candidates()
    assert len(found) == len(dict(found)) == 61
    flow.runtime.crash(STAGE, redeliver=1000)
    flow.runtime.run()
    told = Counter(key for key, _ in flow.candidates())
    assert [key for key, times in told.items() if times > 1] == ["rss:1"]


def test_what_is_said_of_an_episode_counts_in_its_order(index: Index) -> None:
    flow, episodes = Flow(index, RETRY_S), index.episodes[:40]
    first, last = episodes[0], episodes[-1]
    flow.refer(*episodes)
    for episode in (first, last):
        flow.refer(episode, withdrawn=True)
    own(flow)
    own(flow, withdrawn=True, record=None)
    flow.runtime.run()
    newest = dict(flow.candidates())
    assert newest["rss:1"] is None
    assert newest.get(f"pi:{first.episode_id}") is None
    assert newest.get(f"pi:{last.episode_id}") is None
    assert sum(record is not None for record in newest.values()) == 38
    assert flow.waiting() == {}
    for episode in (first, last):
        flow.refer(episode)
    own(flow)
    flow.runtime.run()
    assert sum(record is not None for record in dict(flow.candidates()).values()) == 41
