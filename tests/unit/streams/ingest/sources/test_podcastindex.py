from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from streams.demo.demo_catalogue import build_catalogue
from streams.demo.demo_index import DEMO_KEY, DEMO_SECRET, DemoIndex
from streams.demo.demo_shapes import NO_CATEGORIES
from streams.http.circuit import FAILURES_TO_OPEN
from streams.http.rate_limits import HostRateLimiter, Limit
from streams.ingest.core.episodes import PODCASTINDEX
from streams.ingest.core.following import Cursor
from streams.ingest.core.subscriptions import subscription
from streams.ingest.sources.base import Found, Ref, SourceError, UnavailableSourceError
from streams.ingest.sources.podcastindex import ATTEMPTS, PodcastIndexClient, PodcastIndexSource
from streams.ingest.sources.podcastindex_polls import FIRST_EPISODES, OVERLAP_S, WHOLE_EVERY_S
from streams.runtime.clock import SystemClock

EVERYTHING = subscription(PODCASTINDEX, PODCASTINDEX, "settings")


async def found_by(source: PodcastIndexSource, cursor: Cursor | None = None) -> list[Found]:
    return [found async for found in source.poll(EVERYTHING, cursor or Cursor())]


async def refs_of(source: PodcastIndexSource) -> list[Ref]:
    return [ref for found in await found_by(source) for ref in found.refs]


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/api/1.0"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def demo_source(secret: str = DEMO_SECRET) -> AsyncIterator[PodcastIndexSource]:
    async with serving(DemoIndex(build_catalogue(), time.time()).app()) as url:
        source = PodcastIndexSource(PodcastIndexClient(url, DEMO_KEY, secret, backoff_s=0.01))
        try:
            yield source
        finally:
            await source.close()


def scripted(answers: list[Callable[[], web.Response]]) -> tuple[web.Application, list[str]]:
    """An index that gives the answers one by one, the last one for ever; and what it was asked."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return answers[min(len(asked), len(answers)) - 1]()

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    return app, asked


def good() -> web.Response:
    return web.json_response({"status": "true", "feeds": [{"id": 1}, None], "max": "5"})


async def test_trending_shows_come_first_five_episodes_each() -> None:
    async with demo_source() as source:
        batches = await found_by(source)
    first, more, recent = (found.refs for found in batches)
    shows = list(dict.fromkeys(ref["feed_id"] for ref in first))
    assert len(shows) == len(build_catalogue().shows)
    per_show = [sum(ref["feed_id"] == show for ref in first) for show in shows]
    assert set(per_show) == {FIRST_EPISODES}
    assert {ref["found_by"] for ref in first + more} == {"trending"}
    # What is new anywhere was found before, with the shows that trend.
    assert recent == []
    found = {ref["episode_id"] for ref in first + more}
    assert len(found) == sum(e.age_s is not None for e in build_catalogue().episodes.values())


async def test_a_ref_becomes_the_full_record_with_the_categories_of_its_feed() -> None:
    async with demo_source() as source:
        refs = await refs_of(source)
        records = await source.fetch(refs)
        assert set(records) == {ref["episode_id"] for ref in refs}
        for record in records.values():
            assert not isinstance(record, SourceError)
            assert bool(record["categories"]) == (record["show_title"] != NO_CATEGORIES)
            assert record["transcripts"]
            assert "<" not in record["description"]
        one = await source.fetch(refs[:1])
        assert one[refs[0]["episode_id"]] == records[refs[0]["episode_id"]]
        lost = await source.fetch([refs[0] | {"episode_id": "pi:5", "source_id": "5"}])
        assert isinstance(lost["pi:5"], SourceError)


async def test_a_wrong_secret_is_said_once_and_not_retried() -> None:
    async with demo_source(secret="wrong") as source:
        with pytest.raises(SourceError, match="401: Authorization header does not match"):
            await found_by(source)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: web.Response(status=429),
        lambda: web.Response(status=503, text="<html>no</html>", content_type="text/html"),
        lambda: web.Response(text="<!DOCTYPE html>", content_type="text/html"),
    ],
)
async def test_transient_trouble_is_retried(bad: Callable[[], web.Response]) -> None:
    app, asked = scripted([bad, bad, good])
    async with serving(app) as url:
        client = PodcastIndexClient(url, "k", "s", backoff_s=0.001)
        assert await client.trending(5) == [{"id": 1}]
        await client.close()
    assert asked == ["/api/1.0/podcasts/trending?max=5"] * 3


async def test_the_server_says_how_long_to_wait() -> None:
    app, asked = scripted([lambda: web.Response(status=429, headers={"Retry-After": "1"}), good])
    async with serving(app) as url:
        client = PodcastIndexClient(url, "k", "s", backoff_s=0.001)
        started = time.monotonic()
        await client.trending(5)
        assert time.monotonic() - started > 0.95
        await client.close()
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("bad", "tries"),
    [
        (lambda: web.Response(status=400, text="<html>bad</html>"), 1),
        (lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), 1),
        (lambda: web.json_response({"status": "false", "description": "no such thing"}), 1),
        (lambda: web.json_response(["status"]), 1),
        (lambda: web.Response(status=500), ATTEMPTS),
    ],
)
async def test_lasting_trouble_is_an_error(bad: Callable[[], web.Response], tries: int) -> None:
    app, asked = scripted([bad])
    async with serving(app) as url:
        client = PodcastIndexClient(url, "key", "hush", backoff_s=0.001)
        with pytest.raises(SourceError) as raised:
            await client.trending(5)
        await client.close()
    assert len(asked) == tries
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("status", [302, 401, 403, 407, 418])
async def test_an_index_that_turns_us_away_says_nothing_of_an_episode(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Location": "http://127.0.0.1:1/"} if status == 302 else {}
    app, asked = scripted([lambda: web.Response(status=status, headers=headers, text="no")])
    refs = [
        {"episode_id": f"pi:{n}", "source_id": str(n), "feed_id": str(n + 100)} for n in range(9)
    ]
    async with serving(app) as url:
        source = PodcastIndexSource(PodcastIndexClient(url, "key", "hush", backoff_s=0.001))
        found: dict[Any, Any] = {}
        for ref in refs:
            found |= await source.fetch([ref])
        await source.close()
    errors = list(found.values())
    assert all(isinstance(error, UnavailableSourceError) for error in errors)
    # It refuses everybody, so that it is not asked for ever.
    assert len(asked) == FAILURES_TO_OPEN
    assert [e.asked for e in errors if isinstance(e, UnavailableSourceError)] == [
        n < FAILURES_TO_OPEN for n in range(9)
    ]
    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == (FAILURES_TO_OPEN if status in (401, 403) else 0)
    assert all("PODCASTINDEX_KEY" in message and "clock" in message for message in told)
    assert "hush" not in caplog.text


@pytest.mark.parametrize("status", [400, 404])
async def test_an_index_may_say_that_there_is_no_such_episode(status: int) -> None:
    app, _ = scripted([lambda: web.Response(status=status, text="no such id")])
    async with serving(app) as url:
        source = PodcastIndexSource(PodcastIndexClient(url, "k", "s"))
        ref = {"episode_id": "pi:1", "source_id": "1", "feed_id": "9"}
        error = (await source.fetch([ref]))["pi:1"]
        await source.close()
    assert isinstance(error, SourceError)
    assert not isinstance(error, UnavailableSourceError)


async def test_feeds_crowded_out_by_busy_ones_are_asked_for_again() -> None:
    busy = [{"id": 100 + n, "feedId": 1, "datePublished": n} for n in range(40)]
    quiet = [{"id": 1, "feedId": 2, "datePublished": 1}]

    async def listing(request: web.Request) -> web.Response:
        ids = request.query["id"].split(",")
        items = (busy if "1" in ids else []) + (quiet if "2" in ids else [])
        return web.json_response({"status": "true", "items": items[: int(request.query["max"])]})

    async def trending(request: web.Request) -> web.Response:
        return web.json_response({"status": "true", "feeds": [{"id": 1}, {"id": 2}, {"id": 3}]})

    async def recent(request: web.Request) -> web.Response:
        return web.Response(text=json.dumps({"status": "true", "data": {"items": None}}))

    app = web.Application()
    app.router.add_get("/api/1.0/episodes/byfeedid", listing)
    app.router.add_get("/api/1.0/podcasts/trending", trending)
    app.router.add_get("/api/1.0/recent/data", recent)
    busy += [{"id": 200 + n, "feedId": 1, "datePublished": 0} for n in range(40)]
    async with serving(app) as url:
        client = PodcastIndexClient(url, "k", "s")
        first, _, none = await found_by(PodcastIndexSource(client))
        await client.close()
    assert [ref["episode_id"] for ref in first.refs] == [f"pi:{139 - n}" for n in range(5)] + [
        "pi:1"
    ]
    assert none.refs == []


async def test_requests_keep_their_distance() -> None:
    app, asked = scripted([good])
    async with serving(app) as url:
        paced = HostRateLimiter(lambda url: Limit("index", 10.0, 4), {"index": 1}, SystemClock())
        client = PodcastIndexClient(url, "k", "s", rate_limiter=paced)
        started = time.monotonic()
        for _ in range(3):
            await client.trending(5)
        assert time.monotonic() - started >= 0.2
        await client.close()
    assert len(asked) == 3


class Index:
    """An index of one show whose every request is noted."""

    def __init__(self) -> None:
        self.items = [
            {"id": n, "feedId": 7, "title": f"Episode {n}", "datePublished": 1_000 + n}
            | {"duration": 60}
            for n in range(1, 4)
        ]
        self.recent: list[dict[str, Any]] = []
        self.asked: list[dict[str, str]] = []
        self.broken = ""

    async def answer(self, request: web.Request) -> web.Response:
        route = request.path.removeprefix("/api/1.0/")
        self.asked.append({"route": route, **request.query})
        if route == self.broken:
            return web.Response(status=400)
        data = {"items": self.recent}
        body = {"status": "true", "feeds": [{"id": 7}], "items": self.items, "data": data}
        return web.json_response(body | {"nextSince": 5_000_000})

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.answer)
        return app


async def test_a_later_poll_asks_for_what_is_new_and_announces_what_has_changed() -> None:
    index = Index()
    async with serving(index.app()) as url:
        source = PodcastIndexSource(PodcastIndexClient(url, "k", "s"))
        before = int(time.time())
        *_, last = await found_by(source)
        *_, last = await found_by(source, last.cursor)
        assert last.cursor.positions["recent"] == 5_000_000
        index.asked.clear()
        index.items[0]["title"] = "Episode 1, mended"
        index.recent = [{"episodeId": n, "feedId": 8, "episodeAdded": n} for n in range(100, 200)]
        second = await found_by(source, last.cursor)
        third = await found_by(source, second[-1].cursor)
        await source.close()
    by_route = {asked["route"]: asked for asked in index.asked[:3]}
    assert len(index.asked) == 6
    since = int(by_route["episodes/byfeedid"]["since"])
    assert before <= since + OVERLAP_S <= time.time()
    assert by_route["recent/data"]["since"] == "5000000"
    refs = [(r["episode_id"], r["found_by"]) for found in second for r in found.refs]
    assert refs[0] == ("pi:1", "edit")
    assert refs[1:] == [(f"pi:{n}", "recent") for n in range(199, 139, -1)]
    assert [ref for found in third for ref in found.refs] == []


async def test_what_was_found_before_the_index_failed_stands() -> None:
    index = Index()
    index.broken = "recent/data"
    async with serving(index.app()) as url:
        source = PodcastIndexSource(PodcastIndexClient(url, "k", "s"))
        batches: list[Found] = []

        async def poll() -> None:
            async for found in source.poll(EVERYTHING, Cursor()):
                batches.append(found)

        with pytest.raises(SourceError):
            await poll()
        await source.close()
    assert [ref["episode_id"] for found in batches for ref in found.refs] == [
        "pi:3",
        "pi:2",
        "pi:1",
    ]
    assert batches[-1].cursor.listed.keys() == {"pi:1", "pi:2", "pi:3"}


@pytest.mark.parametrize("fault", [{}, {"id": 10**12}])
async def test_a_show_is_listed_whole_until_that_tells_nothing_new(fault: dict[str, Any]) -> None:
    """An index that once leaves out an id, or gives another one, hides no episode."""
    index = Index()
    item = index.items[0]
    index.items[0] = {**{k: v for k, v in item.items() if k != "id"}, **fault}
    async with serving(index.app()) as url:
        source = PodcastIndexSource(PodcastIndexClient(url, "k", "s"))
        *_, last = await found_by(source)
        index.items[0] = item
        second, *_, last = await found_by(source, last.cursor)
        *_, settled = await found_by(source, last.cursor)
        since = {**settled.cursor.positions, "7": settled.cursor.positions["7"] - WHOLE_EVERY_S}
        await found_by(source, settled.cursor)
        await found_by(source, replace(settled.cursor, positions=since))
        await source.close()
    assert "7" not in last.cursor.positions
    assert [ref["episode_id"] for ref in second.refs] == ["pi:1"]
    listings = [asked for asked in index.asked if asked["route"] == "episodes/byfeedid"]
    assert ["since" in asked for asked in listings] == [False, False, False, True, False]


async def test_what_is_new_anywhere_is_listed_until_it_is_known_or_too_much() -> None:
    index = Index()

    def recent(*ids: int) -> None:
        index.recent = [{"episodeId": n, "feedId": 8, "episodeAdded": n} for n in ids]

    async with serving(index.app()) as url:
        source = PodcastIndexSource(PodcastIndexClient(url, "k", "s"))
        recent(100)
        *_, last = await found_by(source)
        assert "recent" not in last.cursor.positions
        recent(100, 101)
        *_, last = await found_by(source, last.cursor)
        assert [ref["episode_id"] for ref in last.refs] == ["pi:101"]
        assert "recent" not in last.cursor.positions
        *_, settled = await found_by(source, last.cursor)
        recent(*range(200, 300))
        *_, busy = await found_by(source, last.cursor)
        await source.close()
    assert settled.cursor.positions["recent"] == busy.cursor.positions["recent"] == 5_000_000


async def test_an_episode_found_without_its_record_is_not_edited_by_having_one() -> None:
    index = Index()
    index.recent = [{"episodeId": 4, "feedId": 7, "episodeAdded": 9}]
    async with serving(index.app()) as url:
        source = PodcastIndexSource(PodcastIndexClient(url, "k", "s"))
        *_, last = await found_by(source)
        index.items.append({**index.items[0], "id": 4})
        second = await found_by(source, last.cursor)
        index.items[-1]["title"] = "edited"
        third = await found_by(source, second[-1].cursor)
        await source.close()
    assert [r["episode_id"] for r in last.refs] == ["pi:4"]
    assert [ref for found in second for ref in found.refs] == []
    assert [r["found_by"] for found in third for r in found.refs] == ["edit"]


async def test_a_part_of_the_index_is_followed() -> None:
    index = Index()
    part = {**EVERYTHING, "url": "podcastindex-news", "languages": ["en", "de"]}
    part["categories"] = ["News"]
    async with serving(index.app()) as url:
        source = PodcastIndexSource(PodcastIndexClient(url, "k", "s"))
        _ = [found async for found in source.poll(part, Cursor())]
        await source.close()
    assert index.asked[0] == {
        "route": "podcasts/trending",
        "max": "50",
        "lang": "en,de",
        "cat": "News",
    }
