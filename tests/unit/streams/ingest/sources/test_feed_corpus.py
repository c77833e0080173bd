"""Feeds and answers of an index as they should not be, each with what is to become of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import fastavro
import pytest

from schemas import files
from streams.http.fetcher import Fetched
from streams.ingest.core.episodes import (
    PODCASTINDEX,
    RSS,
    EpisodeError,
    episode_from_podcastindex,
    podcastindex_ref,
)
from streams.ingest.core.feed_records import EPISODES_A_FEED
from streams.ingest.core.feeds import FeedError, parse_feed
from streams.ingest.core.following import Cursor
from streams.ingest.core.subscriptions import subscription
from streams.ingest.sources.base import Ref, SourceError
from streams.ingest.sources.podcastindex import PodcastIndexClient, PodcastIndexSource
from streams.ingest.sources.podcastindex_answers import answer_of
from streams.ingest.sources.rss import RssSource
from tests.clocks import StandingClock
from tests.paths import CORPUS

INDEX: list[dict[str, Any]] = json.loads((CORPUS / "feeds-and-answers.json").read_text())
FEED_URL = "https://pods.example/show/feed.xml"
KINDS = ("feeds", "podcastindex")


class StandIn:
    """A fetcher that has one body for whatever is asked."""

    clock = StandingClock()

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def get(self, url: str, **_: object) -> Fetched:
        return Fetched(url, "application/rss+xml", None, self.body)

    async def close(self) -> None:
        pass


class CannedClient(PodcastIndexClient):
    """A client that gives answers by route without asking anyone; and what it would have asked."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        super().__init__("http://127.0.0.1:1", "key", "secret")
        self.answers = answers
        self.asked: list[str] = []
        self.feeds_asked: list[str] = []

    async def _get(self, route: str, **query: str | int) -> dict[str, Any]:
        self.asked.append(route)
        if route == "episodes/byfeedid":
            self.feeds_asked += str(query["id"]).split(",")
        return answer_of(route, 200, None, self.answers[route], self.clock.now())


async def found_in(source: PodcastIndexSource) -> list[list[Ref]]:
    index = subscription(PODCASTINDEX, PODCASTINDEX, "settings")
    return [found.refs async for found in source.poll(index, Cursor())]


def cases(*kinds: str) -> list[Any]:
    return [pytest.param(case, id=case["file"]) for case in INDEX if case["kind"] in kinds]


def assert_encodes(record: dict[str, Any], name: str = "episode") -> None:
    assert fastavro.validate(record, files.parsed(name), raise_errors=True)
    json.dumps(record, default=str, ensure_ascii=False).encode()


def assert_as_expected(records: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for record in records:
        assert_encodes(record)
        if record["published_at"]:
            record["published_at"] = record["published_at"].isoformat()
    pairs = zip(records, expected, strict=False)
    chosen = [{name: record[name] for name in fields} for record, fields in pairs]
    assert chosen == expected
    assert len(records) == len(expected)


async def records_of_feed(body: bytes) -> list[dict[str, Any]]:
    """The episodes of a feed the way the platform gets them: found first, then fetched."""
    source = RssSource(StandIn(body))  # type: ignore[arg-type]
    feed = subscription(FEED_URL, RSS, "opml")
    refs = [ref async for found in source.poll(feed, Cursor()) for ref in found.refs]
    listed = {ref["episode_id"]: ref.pop("record") for ref in refs}
    for ref in refs:
        assert_encodes(ref, "episode_ref")
    probe = {"episode_id": "rss:probe", "feed_id": FEED_URL, "source_id": "no such guid"}
    records = await source.fetch([*refs, probe])
    missing = records.pop("rss:probe")
    assert isinstance(missing, SourceError)
    if str(missing) != "the feed no longer lists the episode":
        raise missing
    assert records == listed
    assert list(records) == list(listed)
    return [record for record in records.values() if not isinstance(record, SourceError)]


def test_the_index_names_every_file_once() -> None:
    listed = [case["file"] for case in INDEX]
    found = [
        f"{path.parent.name}/{path.name}" for kind in KINDS for path in (CORPUS / kind).iterdir()
    ]
    assert sorted(listed) == sorted(found)
    assert len({case["about"] for case in INDEX}) == len(INDEX)


@pytest.mark.parametrize("case", cases("feed"))
async def test_a_feed_of_the_corpus(case: dict[str, Any]) -> None:
    body = (CORPUS / case["file"]).read_bytes()
    if "refused" in case:
        with pytest.raises(SourceError) as refusal:
            await records_of_feed(body)
        assert str(refusal.value).startswith(case["refused"])
        return
    assert_as_expected(await records_of_feed(body), case["episodes"])


@pytest.mark.parametrize("case", cases("items", "feeds", "feed-answer"))
async def test_an_answer_of_the_corpus(case: dict[str, Any]) -> None:
    body = (CORPUS / case["file"]).read_bytes()
    routes = ("episodes/byfeedid", "podcasts/byfeedid", "podcasts/trending")
    client = CannedClient(dict.fromkeys(routes, body))
    if "refused" in case:
        with pytest.raises(SourceError) as refusal:
            await client.episodes_of(["7"], 5)
        assert case["refused"] in str(refusal.value)
    elif case["kind"] == "feeds":
        nothing = json.dumps({"status": "true"}).encode()
        client.answers = dict.fromkeys((*routes, "recent/data"), nothing) | {routes[2]: body}
        source = PodcastIndexSource(client)
        assert await found_in(source) == [[], [], []]
        assert client.feeds_asked == case["feeds"]
    elif case["kind"] == "feed-answer":
        record = episode_from_podcastindex({"id": 1, "feedId": 7}, await client.feed("7"))
        assert_as_expected([record], case["episodes"])
    else:
        records, left_out = [], []
        for item in await client.episodes_of(["7"], 5):
            try:
                records.append(episode_from_podcastindex(item))
                ref = podcastindex_ref(item, "recent", datetime.now(UTC))
                assert ref["episode_id"] == records[-1]["episode_id"]
                assert_encodes(ref, "episode_ref")
            except EpisodeError as error:
                left_out.append(str(error))
        assert_as_expected(records, case["episodes"])
        assert left_out == case.get("left_out", [])


async def test_of_ten_thousand_episodes_the_newest_are_read() -> None:
    items = (
        f"<item><guid>{n}</guid><title>Episode {n}</title>"
        f"<pubDate>{1980 + n // 300}-01-01T00:{n % 300 // 60:02}:{n % 60:02}Z</pubDate></item>"
        for n in range(10_000)
    )
    serial = "<rss><channel><itunes:type>serial</itunes:type>"
    body = (serial + "".join(items) + "</channel></rss>").encode()
    records = await records_of_feed(body)
    assert [record["guid"] for record in records] == [
        str(n) for n in range(9_999, 9_999 - EPISODES_A_FEED, -1)
    ]


def test_undated_entries_stay_in_the_order_of_the_feed() -> None:
    body = "<rss><channel>" + "".join(f"<item><guid>{n}</guid></item>" for n in range(3_000))
    entries = parse_feed(FEED_URL, (body + "</channel></rss>").encode(), 5)["episodes"]
    assert [entry["guid"] for entry in entries] == ["0", "1", "2", "3", "4"]
    with pytest.raises(FeedError, match="no element found"):
        parse_feed(FEED_URL, body.encode(), 5)


async def test_an_index_that_mixes_up_feeds_is_not_asked_for_ever() -> None:
    others = [{"id": n + 1, "feedId": 999, "datePublished": "soon"} for n in range(1_000)]
    recent = {"items": [{"episodeId": 1, "feedId": 999}]}
    client = CannedClient(
        {
            "podcasts/trending": json.dumps({"status": "true", "feeds": [{"id": 7}]}).encode(),
            "episodes/byfeedid": json.dumps({"status": "true", "items": others}).encode(),
            "recent/data": json.dumps({"status": "true", "data": recent}).encode(),
        }
    )
    batches = await found_in(PodcastIndexSource(client))
    assert [len(refs) for refs in batches] == [0, 0, 1]
    assert client.asked.count("episodes/byfeedid") == 1


async def test_odd_dates_do_not_stop_the_discovery() -> None:
    dates: list[Any] = ["soon", 5, [], None, "9", {}, 10**30]
    items = [{"id": n + 1, "feedId": "7", "datePublished": date} for n, date in enumerate(dates)]
    answer = {"status": "true", "feeds": [{"id": 7}], "items": items}
    body = json.dumps(answer).encode()
    routes = ("podcasts/trending", "episodes/byfeedid", "recent/data")
    source = PodcastIndexSource(CannedClient(dict.fromkeys(routes, body)))
    first, *_ = await found_in(source)
    assert [ref["source_id"] for ref in first] == ["5", "2", "1", "3", "4"]


async def test_another_episode_than_the_one_asked_for_is_refused() -> None:
    answer = {"status": "true", "feed": {}, "episode": {"id": 2, "feedId": 7}}
    body = json.dumps(answer).encode()
    routes = ("podcasts/byfeedid", "episodes/byid")
    source = PodcastIndexSource(CannedClient(dict.fromkeys(routes, body)))
    ref = podcastindex_ref({"id": 1, "feedId": 7}, "recent", datetime.now(UTC))
    assert str((await source.fetch([ref]))["pi:1"]) == "the index answered with another episode"
