from __future__ import annotations

import time
from typing import Any
from xml.etree import ElementTree

from aiohttp.test_utils import TestClient, TestServer

from streams.demo.demo_catalogue import FIRST_EPISODE_ID, FIRST_FEED_ID, build_catalogue
from streams.demo.demo_index import DEMO_KEY, DEMO_SECRET, DemoIndex
from streams.ingest.core.episodes import episode_from_podcastindex, episode_from_rss
from streams.ingest.core.feeds import parse_feed
from streams.ingest.sources.podcastindex import PodcastIndexClient

FEED = f"/feeds/{FIRST_FEED_ID}.xml"
JSON = {"Content-Type": "application/json"}
SAME = ("title", "description", "published_at", "duration_s", "explicit", "enclosure_url", "link")


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def started(clock: Clock) -> TestClient[Any, Any]:
    return TestClient(TestServer(DemoIndex(build_catalogue(), clock.now, 10, clock=clock).app()))


async def test_a_feed_tells_what_the_api_tells() -> None:
    async with started(Clock()) as http:
        base = str(http.make_url("")).rstrip("/")
        body = await (await http.get(FEED)).read()
        feed = parse_feed(base + FEED, body, 200)
        client = PodcastIndexClient(f"{base}/api/1.0", DEMO_KEY, DEMO_SECRET)
        items = await client.episodes_of([str(FIRST_FEED_ID)], 20)
        known = await client.feed(str(FIRST_FEED_ID))
        await client.close()
    assert known["url"] == base + FEED
    by_guid = {e["guid"]: episode_from_rss(base + FEED, feed, e) for e in feed["episodes"]}
    assert len(items) == len(by_guid) >= 5
    for item in items:
        told, read = episode_from_podcastindex(item, known), by_guid[item["guid"]]
        assert [read[name] for name in SAME] == [told[name] for name in SAME]
        assert [(t["url"], t["type"]) for t in read["transcripts"]] == [
            (t["url"], t["type"]) for t in told["transcripts"]
        ]
        assert (read["show_title"], read["language"]) == (told["show_title"], told["language"])
        assert set(read["categories"]) == set(told["categories"])


async def test_an_unchanged_feed_is_not_sent_again() -> None:
    clock = Clock()
    async with started(clock) as http:
        first = await http.get(FEED)
        tag, changed = first.headers["ETag"], first.headers["Last-Modified"]
        assert (await http.get(FEED, headers={"If-None-Match": tag})).status == 304
        assert (await http.get(FEED, headers={"If-Modified-Since": changed})).status == 304
        assert (await http.get(FEED, headers={"If-None-Match": '"other"'})).status == 200
        both = {"If-None-Match": '"other"', "If-Modified-Since": changed}
        assert (await http.get(FEED, headers=both)).status == 200

        clock.now += 60
        path = f"/demo/edit/{FIRST_EPISODE_ID}"
        edited = await http.post(path, json={"title": "Another & better"}, headers=JSON)
        assert edited.status == 200
        again = await http.get(FEED, headers={"If-None-Match": tag})
        assert (again.status, again.headers["ETag"] == tag) == (200, False)
        assert (await http.get(FEED, headers={"If-Modified-Since": changed})).status == 200
        titles = {e["title"] for e in parse_feed("http://x", await again.read(), 200)["episodes"]}
        assert "Another & better" in titles


async def test_a_withdrawn_episode_is_gone_everywhere() -> None:
    async with started(Clock()) as http:
        base = str(http.make_url("")).rstrip("/")
        client = PodcastIndexClient(f"{base}/api/1.0", DEMO_KEY, DEMO_SECRET)
        known = await client.episode(str(FIRST_EPISODE_ID))
        path = f"/demo/withdraw/{FIRST_EPISODE_ID}"
        assert (await http.post(path, json={})).status == 200
        assert (await http.post(path, json={})).status == 404
        assert await client.episode(str(FIRST_EPISODE_ID)) == {}
        recent = (await client._get("recent/episodes", max=1000))["items"]
        assert FIRST_EPISODE_ID not in {item["id"] for item in recent}
        await client.close()
        assert (await http.get(known["transcripts"][0]["url"].removeprefix(base))).status == 404
        assert f"demo-{FIRST_EPISODE_ID}<" not in await (await http.get(FEED)).text()


async def test_edits_are_for_programs_of_this_machine() -> None:
    async with started(Clock()) as http:
        path = f"/demo/edit/{FIRST_EPISODE_ID}"
        # What a web page may send without asking first.
        assert (await http.post(path, data='{"title": "x"}')).status == 415
        assert (await http.post(path, data="{", headers=JSON)).status == 400
        assert (await http.post(path, json=[])).status == 400
        assert (await http.post(path, json={"title": 5})).status == 400
        assert (await http.post("/demo/edit/5", json={})).status == 404


async def test_the_list_of_feeds_names_every_show() -> None:
    async with started(Clock()) as http:
        outline = ElementTree.fromstring(await (await http.get("/feeds.opml")).read())  # noqa: S314
        found = [node.get("xmlUrl", "") for node in outline.iter("outline")]
        assert len(found) == len(set(found)) == len(build_catalogue().shows)
        base = str(http.make_url("")).rstrip("/")
        for url in found[:3]:
            answer = await http.get(url.removeprefix(base))
            assert (answer.status, answer.content_type) == (200, "application/rss+xml")
        assert (await http.get("/feeds/5.xml")).status == 404


async def test_recent_data_pages_through_everything_from_old_to_new() -> None:
    clock = Clock()
    async with started(clock) as http:
        base = str(http.make_url("/api/1.0"))
        client = PodcastIndexClient(base, DEMO_KEY, DEMO_SECRET)
        since, found, pages = 1, [], 0
        while True:
            answer = await client._get("recent/data", since=since, max=50)
            items = answer["data"]["items"]
            if not items:
                break
            added = [item["episodeAdded"] for item in items]
            assert added == sorted(added, reverse=True)
            assert since <= min(added) <= max(added) < answer["nextSince"]
            since, pages = answer["nextSince"], pages + 1
            found += [item["episodeId"] for item in items]
        at_start = {
            e.episode_id for e in build_catalogue().episodes.values() if e.age_s is not None
        }
        assert set(found) == at_start
        assert len(found) == len(at_start)
        assert pages >= len(at_start) // 60
        clock.now += 25
        fresh = await client._get("recent/data", since=since)
        assert fresh["itemCount"] == 2
        assert all(item["episodeAdded"] >= since for item in fresh["data"]["items"])
        # Of itself it tells of the last day.
        day = await client._get("recent/data")
        assert 2 < day["itemCount"] < len(at_start)
        assert day["since"] == int(clock.now) - 86_400
        await client.close()
