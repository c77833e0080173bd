from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from streams.demo.demo_catalogue import FIRST_EPISODE_ID, FIRST_FEED_ID, MIN_WORDS, build_catalogue
from streams.demo.demo_index import DEMO_KEY, DEMO_SECRET, DemoIndex
from streams.demo.demo_shapes import NO_CATEGORIES
from streams.demo.demo_transcripts import RENDERINGS

START = 1_700_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def headers(date: float = START, key: str = DEMO_KEY, secret: str = DEMO_SECRET) -> dict[str, str]:
    text = str(int(date))
    token = hashlib.sha1((key + secret + text).encode()).hexdigest()  # noqa: S324
    return {"User-Agent": "t", "X-Auth-Key": key, "X-Auth-Date": text, "Authorization": token}


async def ask(client: TestClient[Any, Any], route: str, **query: object) -> dict[str, Any]:
    params = {name: str(value) for name, value in query.items()}
    response = await client.get(f"/api/1.0/{route}", params=params, headers=headers())
    assert response.status == 200
    found: dict[str, Any] = await response.json()
    return found


def test_the_catalogue_is_large_varied_and_the_same_each_time() -> None:
    catalogue = build_catalogue()
    episodes = list(catalogue.episodes.values())
    assert len(catalogue.shows) >= 40
    assert len(episodes) >= 400
    assert len({show.show.subject for show in catalogue.shows.values()}) == 10
    assert len({episode.title for episode in episodes}) == len(episodes)
    assert min(sum(len(x.text.split()) for x in e.lines) for e in episodes) >= MIN_WORDS >= 300
    assert {name for episode in episodes for name in episode.formats} == set(RENDERINGS)
    assert 0.55 < sum(e.age_s is not None for e in episodes) / len(episodes) < 0.65
    later = [episode.release for episode in episodes if episode.release is not None]
    assert sorted(later) == list(range(len(later)))
    assert build_catalogue.__wrapped__(7) == catalogue
    assert build_catalogue(8) != catalogue


def test_subjects_are_separable_yet_overlap() -> None:
    """A show's words are nearer to its subject's other shows than to the average show."""
    catalogue = build_catalogue()
    words: dict[int, Counter[Any]] = {}
    for episode in catalogue.episodes.values():
        counts = words.setdefault(episode.feed_id, Counter())
        counts.update(word for line in episode.lines for word in line.text.lower().split())
    common = Counter(word for counts in words.values() for word in counts)
    rare = {feed: {w for w in counts if common[w] <= 12} for feed, counts in words.items()}

    def nearness(one: int, other: int) -> float:
        return len(rare[one] & rare[other]) / len(rare[one] | rare[other])

    subject = {feed: show.show.subject for feed, show in catalogue.shows.items()}
    within = [nearness(a, b) for a in rare for b in rare if a < b and subject[a] == subject[b]]
    across = [nearness(a, b) for a in rare for b in rare if a < b and subject[a] != subject[b]]
    assert sum(within) / len(within) > 3 * sum(across) / len(across)
    assert max(across) > min(within) / 2


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ({}, "X-Auth-Key header is not set or blank."),
        (headers() | {"Authorization": ""}, "Authorization header is not set or blank."),
        (headers() | {"User-Agent": " "}, "User-Agent header is not set or blank."),
        (headers(START - 181), "X-Auth-Date is outside of the allowed window."),
        (headers() | {"X-Auth-Date": "today"}, "X-Auth-Date is outside of the allowed window."),
        (headers(secret="other"), "Authorization header does not match."),
        (headers(key="OTHER"), "Authorization header does not match."),
    ],
)
async def test_only_the_authorised_get_in(sent: dict[str, str], why: str) -> None:
    app = DemoIndex(build_catalogue(), START, clock=Clock()).app()
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/api/1.0/podcasts/trending", headers=sent)
        assert (response.status, await response.text()) == (401, why)
        in_time = await client.get("/api/1.0/podcasts/trending", headers=headers(START - 170))
        assert in_time.status == 200


async def test_shapes_and_oddities_are_those_of_the_real_index() -> None:
    app = DemoIndex(build_catalogue(), START, clock=Clock()).app()
    async with TestClient(TestServer(app)) as client:
        trending = await ask(client, "podcasts/trending", max=100)
        assert (trending["status"], trending["max"]) == ("true", "100")
        scores = [feed["trendScore"] for feed in trending["feeds"]]
        assert scores == sorted(scores, reverse=True)
        assert {feed["title"] for feed in trending["feeds"] if feed["categories"] is None} == {
            NO_CATEGORIES
        }
        history = await ask(client, "podcasts/trending", cat="History", notcat="Business")
        assert history["feeds"]
        assert all("History" in f["categories"].values() for f in history["feeds"])
        assert not any("Business" in f["categories"].values() for f in history["feeds"])

        ids = f"{FIRST_FEED_ID},{FIRST_FEED_ID + 1}"
        listed = await ask(client, "episodes/byfeedid", id=ids, max=1000)
        assert {item["feedId"] for item in listed["items"]} == {FIRST_FEED_ID, FIRST_FEED_ID + 1}
        assert len((await ask(client, "episodes/byfeedid", id=ids, max=3))["items"]) == 3
        assert "transcriptUrl" in listed["items"][0]
        assert {item["season"] == 0 for item in listed["items"]}

        single = (await ask(client, "episodes/byid", id=FIRST_EPISODE_ID))["episode"]
        assert single["duration"] is None
        assert "transcriptUrl" not in single
        assert (await ask(client, "episodes/byid", id=5))["episode"] == []
        assert (await ask(client, "podcasts/byfeedid", id=5))["feed"] == []

        recent = await ask(client, "recent/episodes", max=7)
        assert len(recent["items"]) == 7
        assert not {"duration", "transcripts"} & set(recent["items"][0])
        refused = await client.get("/api/1.0/episodes/byfeedid", headers=headers())
        assert (refused.status, refused.content_type) == (400, "text/html")


async def test_new_episodes_appear_as_time_goes_by() -> None:
    clock = Clock()
    catalogue = build_catalogue()
    index = DemoIndex(catalogue, START, trickle_s=10, clock=clock)
    at_start = len(index.visible())
    assert at_start == sum(e.age_s is not None for e in catalogue.episodes.values())
    clock.now = START + 35
    assert len(index.visible()) == at_start + 3
    async with TestClient(TestServer(index.app())) as client:
        newest = (await ask(client, "recent/episodes", max=1))["items"][0]
        assert newest["datePublished"] == START + 30
        data = await ask(client, "recent/data", since=int(START) + 15)
        added = sorted(item["episodeAdded"] for item in data["data"]["items"])
        assert added == [START + 20, START + 30]
        assert (await ask(client, "recent/data", since=data["nextSince"]))["itemCount"] == 0
        hidden = next(e for e in catalogue.episodes.values() if e.release == 3)
        assert (await ask(client, "episodes/byid", id=hidden.episode_id))["episode"] == []
    clock.now = START + 10 * len(catalogue.episodes)
    assert len(index.visible()) == len(catalogue.episodes)


async def test_transcripts_and_audio_are_served_as_listed() -> None:
    app = DemoIndex(build_catalogue(), START, clock=Clock()).app()
    seen = set()
    async with TestClient(TestServer(app)) as client:
        items = (await ask(client, "recent/episodes", max=1000))["items"]
        for item in items:
            episode = (await ask(client, "episodes/byid", id=item["id"]))["episode"]
            for link in episode["transcripts"]:
                response = await client.get(link["url"].replace(str(client.make_url("/"))[:-1], ""))
                assert response.status == 200
                assert response.content_type == link["type"]
                assert len((await response.text()).split()) > 300
                seen.add(link["type"])
        audio = await client.get(f"/audio/{FIRST_EPISODE_ID}.wav")
        assert (await audio.read())[:4] == b"RIFF"
        assert (await client.get("/transcripts/1.vtt")).status == 404
        assert (await client.get("/transcripts/x.y")).status == 404
    assert seen == {mime for rendering in RENDERINGS.values() for mime in rendering.mimes}
