"""Following feeds on the in-memory log, against hosts over real HTTP and a clock set by hand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr
from yarl import URL

from schemas.codec import RecordCodec
from streams.demo.demo_catalogue import build_catalogue
from streams.demo.demo_index import DEMO_KEY, DEMO_SECRET, DemoIndex
from streams.http.circuit import FAILURES_TO_OPEN
from streams.http.rate_limits import HostRateLimiter
from streams.ingest.core import following
from streams.ingest.core.following import Cursor, Followed
from streams.ingest.core.listings import MISSED_S
from streams.ingest.core.subscriptions import subscription
from streams.ingest.discover_episodes import DiscoverEpisodes, FeedSchedule
from streams.ingest.sources.base import Found
from streams.runtime.in_memory import MemoryLog, MemoryRuntime, MemoryStateLog
from streams.state.keyed_table import KeyedState, StateTable
from streams.state.store import LogStates
from tests.clocks import StandingClock
from tests.served import answering, served
from topology.graph import build_graph, state_topic
from topology.settings import Settings
from topology.tables import CURSORS

INTERVAL_S = 300.0


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock(1_800_000_000.0)


class FeedHost:
    """A host of RSS feeds; each body is made of (guid, title, year) of its items."""

    def __init__(self) -> None:
        self.feeds: dict[str, list[tuple[str, str, int]]] = {}
        self.status: dict[str, int] = {}
        self.answered: list[tuple[str, int]] = []
        self.name = ""

    def url(self, path: str) -> str:
        return f"http://{self.name}{path}"

    async def serve(self, request: web.Request) -> web.Response:
        response = self._answer(request)
        self.answered.append((request.path, response.status))
        return response

    def _answer(self, request: web.Request) -> web.Response:
        if status := self.status.get(request.path):
            return web.Response(status=status)
        items = self.feeds[request.path]
        etag = f'"{hash(tuple(items))}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        body = "".join(
            f"<item><guid>{guid}</guid><title>{title}</title>"
            f"<pubDate>{year}-01-01T00:00:00Z</pubDate></item>"
            for guid, title, year in items
        )
        text = f"<rss><channel><title>Show</title>{body}</channel></rss>"
        return web.Response(text=text, headers={"ETag": etag})

    def app(self) -> web.Application:
        return answering(self.serve)


@pytest.fixture
def host() -> Iterator[FeedHost]:
    made = FeedHost()
    made.feeds["/a.xml"] = [("a3", "Three", 2023), ("a2", "Two", 2022), ("a1", "One", 2021)]
    made.feeds["/b.xml"] = [("b1", "One", 2021)]
    with served(made.app()) as made.name:
        yield made


def runtime(host: FeedHost, clock: StandingClock, *stages: str, **overrides: Any) -> MemoryRuntime:
    settings = Settings.model_validate(
        {"fetch_allow_hosts": host.name, "discover_interval_s": INTERVAL_S}
    )
    made = MemoryRuntime(build_graph(2), settings.model_copy(update=overrides), clock=clock)
    for stage in stages or ("discover_episodes",):
        made.start(stage)
    return made


def follow(flow: MemoryRuntime, *urls: str, **changes: Any) -> None:
    for url in urls:
        flow.log.append("feeds", subscription(url, "rss", "me") | changes, key=url)


def refs(flow: MemoryRuntime) -> list[tuple[str, str]]:
    """(source_id, found_by) of what was announced."""
    return [(ref["source_id"], ref["found_by"]) for ref in flow.log.decoded("episode-ids")]


def test_a_feed_is_polled_when_it_is_due_and_what_is_new_announced_once(
    host: FeedHost, clock: StandingClock
) -> None:
    flow = runtime(host, clock)
    follow(flow, host.url("/a.xml"))
    flow.run()
    assert sorted(refs(flow)) == [("a1", "feed"), ("a2", "feed"), ("a3", "feed")]
    flow.run()
    clock.move(INTERVAL_S)
    host.feeds["/a.xml"].insert(0, ("a4", "Four", 2024))
    flow.run()
    assert Counter(refs(flow))["a4", "feed"] == 1
    assert len(refs(flow)) == 4
    clock.move(INTERVAL_S)
    flow.run()
    assert len(refs(flow)) == 4
    assert host.answered == [("/a.xml", 200), ("/a.xml", 200), ("/a.xml", 304)]


def test_a_ref_carries_the_record_as_it_goes_into_the_metadata(
    host: FeedHost, clock: StandingClock
) -> None:
    flow = runtime(host, clock)
    follow(flow, host.url("/a.xml"))
    flow.run()
    codec = RecordCodec("episode-metadata", "episode", flow.log.registry)
    for message in flow.log.records("episode-ids"):
        ref = flow.log.wire.decode("episode-ids", message.value)
        record = codec.decode(ref["record"])
        assert record["episode_id"] == ref["episode_id"] == (message.key or b"").decode()
        assert record["guid"] == ref["source_id"]
        assert not ref["withdrawn"]


@pytest.mark.parametrize("redeliver", [0, 5])
def test_a_restart_fetches_nothing_that_it_has(
    host: FeedHost, clock: StandingClock, redeliver: int
) -> None:
    flow = runtime(host, clock)
    follow(flow, host.url("/a.xml"), host.url("/b.xml"))
    flow.run()
    announced, asked = refs(flow), len(host.answered)
    flow.crash("discover_episodes", redeliver=redeliver)
    flow.run()
    assert (refs(flow), len(host.answered)) == (announced, asked)
    clock.move(INTERVAL_S)
    flow.run()
    assert refs(flow) == announced
    assert sorted(host.answered[asked:]) == [("/a.xml", 304), ("/b.xml", 304)]


def test_edits_and_withdrawals_are_announced(host: FeedHost, clock: StandingClock) -> None:
    flow = runtime(host, clock)
    follow(flow, host.url("/a.xml"))
    flow.run()
    ids = {ref["source_id"]: ref["episode_id"] for ref in flow.log.decoded("episode-ids")}
    host.feeds["/a.xml"] = [("a2", "Two, mended", 2022), ("a1", "One", 2021)]
    clock.move(INTERVAL_S)
    flow.run()
    later = [r for r in flow.log.decoded("episode-ids") if r["found_by"] == "edit"]
    assert [ref["episode_id"] for ref in later] == [ids["a2"]]
    assert withdrawals(flow) == []
    clock.move(MISSED_S)
    flow.crash("discover_episodes")
    flow.run()
    assert host.answered[-1] == ("/a.xml", 304)
    assert withdrawals(flow) == [(ids["a3"], None)]
    host.feeds["/a.xml"] = []
    for _ in range(3):
        clock.move(MISSED_S)
        flow.run()
    host.status["/a.xml"] = 500
    clock.move(MISSED_S)
    flow.run()
    assert len(refs(flow)) == 5


def withdrawals(flow: MemoryRuntime) -> list[tuple[str, bytes | None]]:
    found = flow.log.decoded("episode-ids")
    return [(ref["episode_id"], ref["record"]) for ref in found if ref["withdrawn"]]


def test_an_edge_that_lags_behind_withdraws_nothing_and_repeats_nothing(
    host: FeedHost, clock: StandingClock
) -> None:
    flow = runtime(host, clock)
    follow(flow, host.url("/a.xml"))
    whole = host.feeds["/a.xml"]
    for _ in range(6):
        flow.run()
        clock.move(INTERVAL_S)
        host.feeds["/a.xml"] = whole[1:] if host.feeds["/a.xml"] == whole else whole
    assert [status for _, status in host.answered] == [200] * 6
    assert len(refs(flow)) == 3


def test_a_crash_before_the_cursor_is_kept_repeats_refs_and_loses_none(
    host: FeedHost, clock: StandingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = runtime(host, clock)
    follow(flow, host.url("/a.xml"))
    flow.run(timers=False)

    def killed(*_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as during:
        during.setattr(StateTable, "put", killed)
        with pytest.raises(RuntimeError, match="killed"):
            flow.run()
    flow.crash("discover_episodes")
    flow.run()
    assert set(Counter(refs(flow)).values()) == {2}
    assert len(set(refs(flow))) == 3
    flow.crash("discover_episodes")
    flow.run()
    assert len(refs(flow)) == 6


def test_a_tombstone_ends_a_subscription(host: FeedHost, clock: StandingClock) -> None:
    flow = runtime(host, clock)
    follow(flow, host.url("/a.xml"), host.url("/b.xml"))
    flow.run()
    flow.log.append("feeds", None, key=host.url("/a.xml"))
    flow.log.append("feeds", None, key="https://never.example/")
    clock.move(INTERVAL_S)
    flow.run()
    assert Counter(path for path, _ in host.answered) == {"/a.xml": 1, "/b.xml": 2}
    flow.crash("discover_episodes")
    clock.move(INTERVAL_S)
    flow.run()
    assert Counter(path for path, _ in host.answered) == {"/a.xml": 1, "/b.xml": 3}


def test_a_second_subscription_fetches_nothing_unless_it_asks_for_something_else(
    host: FeedHost, clock: StandingClock
) -> None:
    flow = runtime(host, clock)
    follow(flow, host.url("/a.xml"))
    flow.run()
    follow(flow, host.url("/a.xml"))
    flow.run()
    assert len(host.answered) == 1
    follow(flow, host.url("/a.xml"), interval_s=60)
    flow.run()
    clock.move(60)
    flow.run()
    assert [status for _, status in host.answered] == [200, 304, 304]
    assert len(refs(flow)) == 3


@pytest.mark.parametrize(("status", "longest_s"), [(404, 86_400), (500, 3_600)])
def test_a_failing_feed_is_asked_ever_less_often(
    host: FeedHost, clock: StandingClock, status: int, longest_s: int
) -> None:
    host.status["/a.xml"] = status
    # The host itself never rests: what is asked of it is up to its feeds.
    flow = runtime(host, clock, fetch_rest_s=0.0)
    follow(flow, host.url("/a.xml"))
    seen: list[float] = []
    for _ in range(7 * 24 * 12 * longest_s // 86_400):
        before = len(host.answered)
        flow.run()
        seen += [clock.now()] * (len(host.answered) - before)
        clock.move(300)
    pauses = [after - before for before, after in pairwise(seen)]
    assert pauses[:3] == sorted(pauses[:3])
    for failures, pause in enumerate(pauses, 1):
        grown = min(INTERVAL_S * 2**failures, longest_s)
        assert 0.9 * grown <= pause <= grown + 300
    assert 8 <= len(seen) < 20
    host.status.clear()
    clock.move(86_400)
    flow.run()
    clock.move(INTERVAL_S)
    flow.run()
    assert [status for _, status in host.answered[-2:]] == [200, 304]
    assert len(refs(flow)) == 3


def test_a_feed_that_failed_is_asked_soon_after_a_start(
    host: FeedHost, clock: StandingClock
) -> None:
    host.status["/a.xml"] = 404
    flow = runtime(host, clock)
    follow(flow, host.url("/a.xml"), host.url("/b.xml"))
    for _ in range(8):
        flow.run()
        clock.move(86_400)
    flow.run()
    host.status.clear()
    asked = len(host.answered)
    flow.crash("discover_episodes")
    clock.move(60)
    flow.run()
    clock.move(60)
    flow.run()
    # The other one is due when it was due.
    assert host.answered[asked:] == [("/a.xml", 200)]


def test_a_feed_whose_host_may_not_be_asked_has_not_failed(
    host: FeedHost, clock: StandingClock
) -> None:
    host.status["/bad.xml"] = 500
    flow = runtime(host, clock)
    follow(flow, host.url("/a.xml"))
    flow.run()
    rate_limiter = HostRateLimiter.of(flow._settings, clock)

    async def trouble() -> None:
        for _ in range(FAILURES_TO_OPEN):
            async with rate_limiter.permit(URL(host.url("/bad.xml"))) as permit:
                permit.answered(500)

    clock.move(INTERVAL_S)
    asyncio.run(trouble())
    asked = len(host.answered)
    before = clock.now()
    flow.run()
    assert len(host.answered) == asked
    (value,) = flow.rows("discover_episodes", CURSORS).values()
    followed = following.decode(value)
    assert followed.failures == 0
    assert before + 20 < followed.next_poll_at < before + 30 * 1.2 + 60


def test_a_feed_that_is_gone_is_left_alone_until_it_is_subscribed_to_anew(
    host: FeedHost, clock: StandingClock
) -> None:
    host.status["/a.xml"] = 410
    flow = runtime(host, clock)
    follow(flow, host.url("/a.xml"))
    for _ in range(3):
        flow.run()
        flow.crash("discover_episodes", redeliver=1)
        clock.move(10 * 86_400)
    assert host.answered == [("/a.xml", 410)]
    host.status.clear()
    follow(flow, host.url("/a.xml"))
    flow.run()
    assert len(refs(flow)) == 3


def test_what_is_no_subscription_goes_to_the_dead_letter_topic(
    host: FeedHost, clock: StandingClock
) -> None:
    flow = runtime(host, clock)
    flow.log.append("feeds", b"garbage", key=host.url("/a.xml"))
    flow.log.append("feeds", subscription(host.url("/a.xml"), "rss", "me"), key="a")
    follow(flow, "file:///etc/passwd", host.url("/b.xml"))
    follow(flow, host.url("/a.xml"), source="itunes")
    flow.log.append("feeds", subscription("podcastindex", "podcastindex", "me"), key="podcastindex")
    flow.run()
    assert len(flow.log.records("feeds.dlq")) == 4
    assert refs(flow) == [("b1", "feed")]


def test_the_settings_are_announced_once_and_ended_when_they_say_no_more(
    host: FeedHost, clock: StandingClock
) -> None:
    urls = (host.url("/a.xml"), host.url("/b.xml"), "no address")
    flow = runtime(host, clock, "announce_feeds", "discover_episodes", rss_feeds=urls)
    flow.run()
    assert len(flow.log.records("feeds")) == 2
    assert len(refs(flow)) == 4
    flow.crash("announce_feeds")
    flow.run()
    assert len(flow.log.records("feeds")) == 2

    less = runtime(host, clock, rss_feeds=urls[:1])
    less.log = flow.log
    less.start("announce_feeds")
    less.run()
    assert [m.key for m in flow.log.records("feeds") if m.value is None] == [urls[1].encode()]


def test_a_restart_asks_an_index_for_less(clock: StandingClock) -> None:
    index = DemoIndex(build_catalogue(), clock.now(), trickle_s=3600, clock=clock.now)
    app = index.app()
    asked: list[str] = []

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        asked.append(request.path_qs.removeprefix("/api/1.0/"))
        found: web.StreamResponse = await handler(request)
        return found

    app.middlewares.append(note)
    with served(app) as name:
        settings = Settings(
            podcastindex_url=f"http://{name}/api/1.0",
            podcastindex_key=SecretStr(DEMO_KEY),
            podcastindex_secret=SecretStr(DEMO_SECRET),
        )
        stages = ("announce_feeds", "discover_episodes", "download_episodes")
        flow = MemoryRuntime(build_graph(2), settings, clock=clock)
        for stage in stages:
            flow.start(stage)
        flow.run()
        found, first = len(refs(flow)), list(asked)
        clock.move(INTERVAL_S)
        flow.run()
        for stage in stages:
            flow.crash(stage)
        asked.clear()
        flow.run()
        assert asked == []
        clock.move(INTERVAL_S)
        flow.run()
    assert found == sum(e.age_s is not None for e in build_catalogue().episodes.values())
    assert len(refs(flow)) == found
    assert [path.partition("?")[0] for path in asked] == [
        "podcasts/trending",
        "episodes/byfeedid",
        "recent/data",
    ]
    assert all("since=" in path for path in asked[1:])
    assert len(first) > 10 * len(asked)


# -- what happens while a feed is being polled ---------------------------------------------------

FEED = (0, "https://pods.example/feed.xml")


class OwnedTable(StateTable):
    """A table that is there by itself, and of which a test says what is owned."""

    owned = frozenset({0, 1})

    def partitions(self) -> set[int]:
        return set(self.owned)


def owned_table() -> OwnedTable:
    log = MemoryLog(build_graph(2))
    topic = state_topic(log.graph.stages["discover_episodes"], CURSORS).name
    states = LogStates(MemoryStateLog(log, topic), lambda _: KeyedState(), asyncio.ensure_future)
    states.assign([0, 1])
    asyncio.run(states.restore())
    return OwnedTable(states)


class Interrupted:
    """A source during whose poll something happens."""

    name = "rss"

    def __init__(self, happens: Any) -> None:
        self.happens = happens

    async def poll(self, _: Mapping[str, Any], cursor: Cursor) -> AsyncIterator[Found]:
        self.happens()
        yield Found([], Cursor(etag="after"))

    async def close(self) -> None:
        pass


def interrupted(host: FeedHost, clock: StandingClock, happens: Any) -> Followed | None:
    """What is in the table after a poll during which ``happens(schedule, table)`` was called."""
    flow = runtime(host, clock)
    context = flow.start("discover_episodes")
    table = owned_table()
    context.table = lambda _: table  # type: ignore[method-assign,assignment]
    codec = RecordCodec("feeds", "feed_subscription", flow.log.registry)
    stage = DiscoverEpisodes(context)
    schedule = FeedSchedule(table, lambda _: "rss", clock)
    value = codec.encode(subscription(FEED[1], "rss", "me"))
    schedule.put(FEED, Followed(value, 5))
    source: Any = Interrupted(lambda: happens(schedule, table))
    asyncio.run(stage.poll(source, FEED))
    return schedule.get(FEED)


def test_a_poll_does_not_revive_a_feed_that_was_unsubscribed_meanwhile(
    host: FeedHost, clock: StandingClock
) -> None:
    assert interrupted(host, clock, lambda schedule, _: schedule.delete(FEED)) is None


def test_a_subscription_that_came_meanwhile_stays_due(host: FeedHost, clock: StandingClock) -> None:
    newer = Followed(b"newer", 6)
    after = interrupted(host, clock, lambda schedule, _: schedule.put(FEED, newer))
    assert after is not None
    assert (after.subscription, after.revision, after.next_poll_at) == (b"newer", 6, 0)
    assert after.cursor.etag == "after"


def test_a_poll_that_has_ended_is_remembered_whatever_else_goes_on(
    host: FeedHost, clock: StandingClock
) -> None:
    """A kill before the timer ends, which waits for other polls, repeats nothing."""
    flow = runtime(host, clock)
    follow(flow, FEED[1])
    context = flow.start("discover_episodes")
    flow.run(timers=False)
    source: Any = Interrupted(lambda: None)
    ((partition, _),) = flow.rows("discover_episodes", CURSORS)
    asyncio.run(DiscoverEpisodes(context).poll(source, (partition, FEED[1])))
    flow.crash("discover_episodes")
    (value,) = flow.rows("discover_episodes", CURSORS).values()
    assert following.decode(value).cursor.etag == "after"


def test_a_worker_that_lost_the_partition_meanwhile_writes_nothing(
    host: FeedHost, clock: StandingClock
) -> None:
    after = interrupted(host, clock, lambda _, table: setattr(table, "owned", frozenset({1})))
    assert after == Followed(after.subscription if after else b"", 5)


def test_workers_share_the_feeds_by_partition() -> None:
    clock = StandingClock(0.0)
    table = owned_table()
    for partition in (0, 1):
        followed = following.encode(Followed(b"", 0, next_poll_at=10 - partition))
        table.put(partition, f"feed {partition}".encode(), followed)
    schedule = FeedSchedule(table, lambda _: "rss", clock)
    clock.move(9.5)
    assert schedule.due("rss") == [(1, "feed 1")]
    clock.move(10.5)
    assert schedule.due("rss") == [(1, "feed 1"), (0, "feed 0")]
    assert schedule.due("podcastindex") == []
    table.owned = frozenset({0})
    schedule.forget()
    assert schedule.due("rss") == [(0, "feed 0")]
