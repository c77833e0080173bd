from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiohttp import ClientError, ClientTimeout
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from streams.demo.demo_catalogue import FIRST_EPISODE_ID, FIRST_FEED_ID, build_catalogue
from streams.demo.demo_faults import (
    LARGE_BYTES,
    LASTING,
    MISLEADING,
    ODDITIES,
    PASSING,
    PASSING_OF_API,
    PASSING_OF_FEEDS,
    STRANGER,
    Pace,
)
from streams.demo.demo_index import DEMO_KEY, DEMO_SECRET, DemoIndex
from streams.demo.misbehaviour import Misbehaviour, Plan
from streams.http.fetcher import (
    GuardedFetcher,
)
from streams.http.guard import FetchError, RefusedError, UnavailableError
from streams.ingest.core.episodes import episode_from_podcastindex
from streams.ingest.core.feeds import FeedError, parse_feed
from streams.ingest.sources.base import SourceError, UnavailableSourceError
from streams.ingest.sources.podcastindex import PodcastIndexClient
from streams.transcripts.core.transcripts import transcript_record

EPISODE = FIRST_EPISODE_ID + 1
PACE = Pace(slow_s=0.1, stall_s=2.0, retry_after_s=1)
KIND = st.sampled_from(["api", "feed", ""])
ADDRESS = st.from_regex(r"/[a-z]{1,9}(\?id=[0-9]{1,4})?", fullmatch=True)


@dataclass(frozen=True)
class Always(Plan):
    """One fault for every request."""

    fault: str = ""

    def temporary(self, address: str, number: int, kind: str = "") -> str | None:
        return None if self.fault in LASTING else self.fault

    def lasting(self, address: str) -> str | None:
        return self.fault if self.fault in LASTING else None


@asynccontextmanager
async def served(plan: Plan) -> AsyncIterator[TestServer]:
    index = DemoIndex(build_catalogue(), time.time(), 1e6, misbehaviour=Misbehaviour(plan, PACE))
    server = TestServer(index.app())
    async with server:
        yield server


def client_of(server: TestServer) -> PodcastIndexClient:
    """One that asks twice."""
    return PodcastIndexClient(
        str(server.make_url("/api/1.0")), DEMO_KEY, DEMO_SECRET, backoff_s=0.001, timeout_s=0.5
    )


def transcript_path() -> str:
    episode = build_catalogue().episodes[EPISODE]
    suffix = {"text": "txt"}.get(episode.formats[0], episode.formats[0])
    return f"/transcripts/{EPISODE}.{suffix}"


@given(
    st.integers(0, 10**9),
    st.floats(0, 1),
    st.integers(1, 4),
    ADDRESS,
    st.sampled_from(["api", "feed", ""]),
)
def test_a_plan_repeats_and_never_spoils_too_many_in_a_row(
    seed: int, rate: float, in_a_row: int, address: str, kind: str
) -> None:
    plan = Plan(seed, rate, in_a_row)
    faults = [plan.temporary(address, number, kind) for number in range(1, 40)]
    again = Plan(seed, rate, in_a_row)
    assert faults == [again.temporary(address, number, kind) for number in range(1, 40)]
    run = 0
    for fault in faults:
        run = run + 1 if fault else 0
        assert run <= in_a_row
    more = {"api": PASSING_OF_API.keys() | MISLEADING.keys(), "feed": PASSING_OF_FEEDS.keys()}
    allowed = PASSING.keys() | more.get(kind, set())
    assert {fault for fault in faults if fault} <= allowed


def test_the_rate_is_what_was_asked_for() -> None:
    plan = Plan(1, 0.3, in_a_row=9)
    spoilt = [plan.temporary(f"/a?id={number}", 1, "api") for number in range(4000)]
    assert 0.27 < sum(map(bool, spoilt)) / 4000 < 0.33
    assert {fault for fault in spoilt if fault} == {*PASSING, *PASSING_OF_API, *MISLEADING}
    lasting = [plan.lasting(f"/transcripts/{number}.vtt") for number in range(4000)]
    assert 0.08 < sum(map(bool, lasting)) / 4000 < 0.12
    assert {fault for fault in lasting if fault} == LASTING.keys()
    assert {kind for n in range(400) if (kind := plan.oddity(n))} == ODDITIES.keys()
    assert not any(Plan(1, 0.0).temporary(f"/a?id={n}", 1, "api") for n in range(400))


@pytest.mark.parametrize(
    ("text", "seed", "rate"), [("7", 7, 0.3), ("7:0.05", 7, 0.05), ("0:1", 0, 1.0), ("1:0", 1, 0.0)]
)
def test_a_plan_is_written_as_seed_and_rate(text: str, seed: int, rate: float) -> None:
    assert Plan.from_text(text) == Plan(seed, rate)


@pytest.mark.parametrize("text", ["", "x", "7:", "7:2", "7:0.3:1", "-1", "7:.3", "7:nan"])
def test_anything_else_is_no_plan(text: str) -> None:
    with pytest.raises(ValueError, match="SEED"):
        Plan.from_text(text)


@pytest.mark.parametrize("fault", [*PASSING, *PASSING_OF_API])
async def test_a_passing_fault_of_the_api_is_worth_another_try(fault: str) -> None:
    async with served(Always(1, fault=fault)) as server:
        client = client_of(server)
        try:
            route, query = "episodes/byid", {"id": str(EPISODE), "fulltext": ""}
            if fault == "slow":
                assert (await client._ask(route, query))["episode"]["id"] == EPISODE
            else:
                with pytest.raises(UnavailableSourceError):
                    await client._ask(route, query)
        finally:
            await client.close()


@pytest.mark.parametrize("fault", PASSING_OF_FEEDS)
async def test_a_spoilt_feed_is_no_feed(fault: str) -> None:
    async with served(Always(1, fault=fault)) as server, TestClient(server) as http:
        body = await (await http.get(f"/feeds/{FIRST_FEED_ID}.xml")).read()
        with pytest.raises(FeedError):
            parse_feed("http://x", body, 200)


async def test_misleading_answers_are_well_formed() -> None:
    async with served(Always(1, fault="other ids")) as server:
        client = client_of(server)
        assert (await client.episode(str(EPISODE)))["id"] == EPISODE + STRANGER
        listed = await client.episodes_of([str(build_catalogue().episodes[EPISODE].feed_id)], 20)
        assert len([item for item in listed if item["id"] > STRANGER]) == -(-len(listed) // 3) < 9
        await client.close()
    async with served(Always(1, fault="no ids")) as server:
        client = client_of(server)
        assert "id" not in await client.episode(str(EPISODE))
        await client.close()
    for fault, said in {"status false": "Something went wrong", "redirect loop": "302"}.items():
        async with served(Always(1, fault=fault)) as server:
            client = client_of(server)
            with pytest.raises(SourceError, match=said):
                await client.episode(str(EPISODE))
            await client.close()


LASTING_ENDS = {
    "a page for captions": "failed",
    "empty": "failed",
    "half of the text": "ok",
    "other charset": "ok",
    "30 MB": RefusedError,
    "404": FetchError,
    "410": FetchError,
    "binary": "failed",
    "captions behind a redirect loop": RefusedError,
}


@pytest.mark.parametrize(("fault", "end"), LASTING_ENDS.items())
async def test_lasting_faults_of_a_transcript(fault: str, end: str | type[Exception]) -> None:
    assert LASTING_ENDS.keys() == LASTING.keys()
    async with served(Always(1, rate=0.0, fault=fault)) as server:
        fetcher = GuardedFetcher([f"127.0.0.1:{server.port}"], max_bytes=LARGE_BYTES // 2)
        url = str(server.make_url(transcript_path()))
        async with fetcher:
            if isinstance(end, type):
                with pytest.raises(end):
                    await fetcher.get(url)
                return
            found = await fetcher.get(url)
        link = {"url": url, "type": found.content_type}
        if fault == "a page for captions":
            link["type"] = "text/vtt"  # what the index announced
        record = transcript_record({"episode_id": "pi:1"}, link, found.body, found.charset)
        assert record["status"] == end, record["reason"]


@pytest.mark.parametrize("fault", ["cut", "too long a length", "bad gzip", "stalled", "503"])
async def test_a_passing_fault_of_a_transcript_is_worth_another_try(fault: str) -> None:
    async with served(Always(1, fault=fault)) as server:
        fetcher = GuardedFetcher([f"127.0.0.1:{server.port}"], timeout_s=0.5)
        async with fetcher:
            with pytest.raises(UnavailableError):
                await fetcher.get(str(server.make_url(transcript_path())))


async def test_oddities_stay_with_an_episode_and_spare_its_ids() -> None:
    async with served(Plan(1, 1.0, in_a_row=1, misleading=False)) as server:
        client = client_of(server)
        feed = str(build_catalogue().episodes[EPISODE].feed_id)
        listed = {item["id"]: item for item in await client.episodes_of([feed], 20)}
        single = await client.episode(str(EPISODE))
        await client.close()
    assert {k: listed[EPISODE][k] for k in single} == single
    whole = episode_from_podcastindex(single, {})
    assert whole["episode_id"] == f"pi:{EPISODE}"
    kind = Plan(1, 1.0).oddity(EPISODE)
    assert kind is not None
    assert {k: v for k, v in ODDITIES[kind].items() if k in single}.items() <= single.items()


async def test_a_poisoned_episode_is_listed_as_recent_and_never_told_of() -> None:
    async with served(Plan(1, 0.0, poisoned=frozenset({EPISODE}))) as server:
        client = client_of(server)
        feed = str(build_catalogue().episodes[EPISODE].feed_id)
        recent = (await client._get("recent/episodes", max=1000))["items"]
        assert EPISODE in {item["id"] for item in recent}
        assert EPISODE not in {item["id"] for item in await client.episodes_of([feed], 20)}
        with pytest.raises(UnavailableSourceError):
            await client.episode(str(EPISODE))
        await client.close()
        async with TestClient(server) as http:
            limit = ClientTimeout(total=0.5)

            async def transcript() -> bytes:
                path = transcript_path()
                async with http.get(path, raise_for_status=True, timeout=limit) as response:
                    return await response.read()

            with pytest.raises((ClientError, TimeoutError)):
                await transcript()


async def test_requests_are_counted_by_address_and_early_ones_are_seen() -> None:
    async with served(Always(1, fault="429 with seconds")) as server, TestClient(server) as http:
        for _ in range(3):
            await http.get(transcript_path())
        counts = await (await http.get("/demo/requests")).json()
    assert counts["requests"] == {transcript_path(): 3}
    assert counts["early"] == {transcript_path(): 2}
    assert counts["good"] == {}
    assert counts["faults"] == {"429 with seconds": 3}


async def test_without_a_plan_every_answer_is_good() -> None:
    index = DemoIndex(build_catalogue(), time.time(), 1e6)
    async with TestClient(TestServer(index.app())) as http:
        for _ in range(5):
            assert (await http.get(transcript_path())).status == 200
        counts = json.loads(await (await http.get("/demo/requests")).text())
    assert Counter(counts["good"]) == Counter({transcript_path(): 5})
    assert counts["faults"] == {}
