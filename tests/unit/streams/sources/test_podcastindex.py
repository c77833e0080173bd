from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from streams.sources.base import SourceError
from streams.sources.demo_catalogue import build_catalogue
from streams.sources.demo_index import DEMO_KEY, DEMO_SECRET, DemoIndex
from streams.sources.demo_shapes import NO_CATEGORIES
from streams.sources.podcastindex import (
    FIRST_EPISODES,
    PodcastIndexClient,
    PodcastIndexSource,
)


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
        batches = [refs async for refs in source.discover()]
    first, more, recent = batches
    shows = list(dict.fromkeys(ref["feed_id"] for ref in first))
    assert len(shows) == len(build_catalogue().shows)
    per_show = [sum(ref["feed_id"] == show for ref in first) for show in shows]
    assert set(per_show) == {FIRST_EPISODES}
    assert {ref["found_by"] for ref in first + more} == {"trending"}
    assert {ref["found_by"] for ref in recent} == {"recent"}
    found = {ref["episode_id"] for ref in first + more}
    assert len(found) == sum(e.age_s is not None for e in build_catalogue().episodes.values())
    assert {ref["episode_id"] for ref in recent} <= found


async def test_a_ref_becomes_the_full_record_with_the_categories_of_its_feed() -> None:
    async with demo_source() as source:
        refs = [ref async for batch in source.discover() for ref in batch]
        records = await source.fetch(refs)
        assert set(records) == {ref["episode_id"] for ref in refs}
        assert not [record for record in records.values() if isinstance(record, SourceError)]
        for record in records.values():
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
            _ = [refs async for refs in source.discover()]


@pytest.mark.parametrize(
    "bad",
    [
        lambda: web.Response(status=429),
        lambda: web.Response(status=503, text="<html>no</html>", content_type="text/html"),
        lambda: web.Response(text="<!DOCTYPE html>", content_type="text/html"),
    ],
)
async def test_passing_trouble_is_retried(bad: Callable[[], web.Response]) -> None:
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
        (lambda: web.Response(status=500), 5),
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
        return web.Response(text=json.dumps({"status": "true", "items": None}))

    app = web.Application()
    app.router.add_get("/api/1.0/episodes/byfeedid", listing)
    app.router.add_get("/api/1.0/podcasts/trending", trending)
    app.router.add_get("/api/1.0/recent/episodes", recent)
    busy += [{"id": 200 + n, "feedId": 1, "datePublished": 0} for n in range(40)]
    async with serving(app) as url:
        client = PodcastIndexClient(url, "k", "s")
        first, _, none = [refs async for refs in PodcastIndexSource(client).discover()]
        await client.close()
    assert [ref["episode_id"] for ref in first] == [f"pi:{139 - n}" for n in range(5)] + ["pi:1"]
    assert none == []


async def test_requests_keep_their_distance() -> None:
    app, asked = scripted([good])
    async with serving(app) as url:
        client = PodcastIndexClient(url, "k", "s", interval_s=0.1)
        started = time.monotonic()
        for _ in range(3):
            await client.trending(5)
        assert time.monotonic() - started >= 0.2
        await client.close()
    assert len(asked) == 3
