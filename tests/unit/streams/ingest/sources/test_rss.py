from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from streams.http.fetcher import Fetched, GuardedFetcher
from streams.http.rate_limits import HostRateLimiter
from streams.ingest.core.episodes import RSS
from streams.ingest.core.feeds import parse_feed
from streams.ingest.core.following import Cursor
from streams.ingest.core.listings import MISSED_S
from streams.ingest.core.subscriptions import subscription
from streams.ingest.sources import rss
from streams.ingest.sources.base import FeedGoneError, Found, SourceError
from streams.ingest.sources.rss import RssSource
from tests.clocks import StandingClock

FEED = """<?xml version="1.0"?>
<rss version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"
     xmlns:podcast="https://podcastindex.org/namespace/1.0">
<channel><title>Small Talk</title><language>en-GB</language>
<itunes:category text="Arts"><itunes:category text="Books"/></itunes:category>
<item><title>One &amp; only</title><guid isPermaLink="false">g-1</guid>
<pubDate>Wed, 02 Jan 2019 03:30:13 GMT</pubDate>
<description>&lt;p&gt;About &lt;b&gt;books&lt;/b&gt;&lt;/p&gt;</description>
<itunes:duration>1:02:03</itunes:duration><itunes:explicit>yes</itunes:explicit>
<enclosure url="https://example.com/1.mp3" type="audio/mpeg" length="5"/>
<podcast:transcript url="https://example.com/1.vtt" type="text/vtt"/></item>
<item><title>Two</title><guid isPermaLink="false">g-2</guid>
<enclosure url="https://example.com/2.mp3" type="audio/mpeg" length="5"/></item>
</channel></rss>"""

LAUGHS = """<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c SYSTEM "file:///etc/passwd">]>
<rss version="2.0"><channel><title>&b;&c;</title></channel></rss>"""


@dataclass
class Host:
    """A host of feeds; what it was asked, and what it answered."""

    bodies: dict[str, str]
    status: dict[str, int] = field(default_factory=dict)
    etags: bool = True
    dates: bool = True
    answered: list[tuple[str, int]] = field(default_factory=list)
    name: str = ""
    clock: StandingClock = field(default_factory=lambda: StandingClock(1_800_000_000.0))

    def url(self, path: str) -> str:
        return f"http://{self.name}{path}"

    async def serve(self, request: web.Request) -> web.Response:
        response = self._answer(request)
        self.answered.append((request.path, response.status))
        return response

    def _answer(self, request: web.Request) -> web.Response:
        if request.path == "/moved.xml":
            return web.Response(status=301, headers={"Location": "/feed.xml"})
        if status := self.status.get(request.path):
            return web.Response(status=status)
        if request.path not in self.bodies:
            return web.Response(status=404)
        body = self.bodies[request.path]
        etag, date = f'"{hash(body)}"', "Wed, 02 Jan 2019 03:30:13 GMT"
        if (known := request.headers.get("If-None-Match")) is None:
            unchanged = self.dates and request.headers.get("If-Modified-Since") == date
        else:
            unchanged = self.etags and known == etag
        if unchanged:
            return web.Response(status=304)
        headers = ({"ETag": etag} if self.etags else {}) | (
            {"Last-Modified": date} if self.dates else {}
        )
        return web.Response(text=body, content_type="application/rss+xml", headers=headers)


@asynccontextmanager
async def host_and_source() -> AsyncIterator[tuple[Host, RssSource]]:
    broken = "<rss><channel>"
    host = Host({"/feed.xml": FEED, "/broken.xml": broken})
    app = web.Application()
    app.router.add_get("/{path:.*}", host.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host.name = f"127.0.0.1:{runner.addresses[0][1]}"
    rate_limiter = HostRateLimiter.unlimited(host.clock)
    source = RssSource(GuardedFetcher([host.name], rate_limiter=rate_limiter))
    try:
        yield host, source
    finally:
        await source.close()
        await runner.cleanup()


async def poll(source: RssSource, url: str, cursor: Cursor | None = None) -> list[Found]:
    feed = subscription(url, RSS, "opml")
    return [found async for found in source.poll(feed, cursor or Cursor())]


async def test_a_feed_is_listed_with_its_records() -> None:
    async with host_and_source() as (host, source):
        (found,) = await poll(source, host.url("/feed.xml"))
        records = {ref["episode_id"]: ref["record"] for ref in found.refs}
        gone = found.refs[0] | {"episode_id": "rss:x", "source_id": "gone"}
        fetched = await source.fetch([*found.refs, gone])
    assert [ref["source_id"] for ref in found.refs] == ["g-1", "g-2"]
    assert {ref["found_by"] for ref in found.refs} == {"feed"}
    assert isinstance(fetched.pop("rss:x"), SourceError)
    assert fetched == records
    assert found.cursor.listed.keys() == records.keys()
    first = next(record for record in records.values() if record["guid"] == "g-1")
    assert first["title"] == "One & only"
    assert first["description"] == "About books"
    assert first["categories"] == ["Arts", "Books"]
    assert (first["duration_s"], first["explicit"], first["language"]) == (3723, True, "en-gb")
    assert first["transcripts"] == [
        {"url": "https://example.com/1.vtt", "type": "text/vtt", "language": ""}
    ]
    assert first["source"] == "rss"


@pytest.mark.parametrize(("etags", "dates"), [(True, True), (True, False), (False, True)])
async def test_a_feed_that_has_not_changed_is_not_sent_again(etags: bool, dates: bool) -> None:
    async with host_and_source() as (host, source):
        host.etags, host.dates = etags, dates
        url = host.url("/feed.xml")
        (found,) = await poll(source, url)
        assert await poll(source, url, found.cursor) == []
        assert [status for _, status in host.answered] == [200, 304]


async def test_a_feed_that_says_nothing_of_its_state_is_compared() -> None:
    async with host_and_source() as (host, source):
        host.etags = host.dates = False
        url = host.url("/feed.xml")
        (found,) = await poll(source, url)
        (again,) = await poll(source, url, found.cursor)
        assert again.refs == []
        assert again.cursor == found.cursor
        host.bodies["/feed.xml"] = FEED.replace("<title>Two<", "<title>Two, mended<")
        (edited,) = await poll(source, url, again.cursor)
    assert [(r["source_id"], r["found_by"]) for r in edited.refs] == [("g-2", "edit")]
    assert edited.refs[0]["record"]["title"] == "Two, mended"


async def test_an_item_taken_out_of_a_feed_is_withdrawn_after_a_while() -> None:
    older = "<item><guid>g-0</guid><pubDate>Wed, 02 Jan 2018 03:30:13 GMT</pubDate></item>"
    async with host_and_source() as (host, source):
        url = host.url("/feed.xml")
        host.bodies["/feed.xml"] = FEED.replace("</channel>", older + "</channel>")
        (found,) = await poll(source, url)
        host.bodies["/feed.xml"] = f"<rss><channel>{older}</channel></rss>"
        (second,) = await poll(source, url, found.cursor)
        assert await poll(source, url, second.cursor) == []
        host.clock.move(MISSED_S)
        (third,) = await poll(source, url, second.cursor)
        assert await poll(source, url, third.cursor) == []
        host.bodies["/feed.xml"] = "<rss><channel></channel></rss>"
        (empty,) = await poll(source, url, third.cursor)
        host.bodies["/feed.xml"] = FEED.replace("</channel>", older + "</channel>")
        (back,) = await poll(source, url, second.cursor)
        (again,) = await poll(source, url, empty.cursor)
    (edited,) = second.refs
    assert edited["found_by"] == "edit"  # the show has lost its title
    (ref,) = third.refs
    assert ref["withdrawn"]
    assert ref["episode_id"] == found.refs[0]["episode_id"]
    assert (empty.refs, empty.cursor.listed) == ([], second.cursor.listed)
    # What comes back before it was said to be gone says nothing, but the show has its title again.
    assert [(r["source_id"], r["found_by"]) for r in back.refs] == [("g-0", "edit")]
    assert not back.cursor.missing
    assert sorted(r["found_by"] for r in again.refs) == ["edit", "feed", "feed"]


async def test_ids_stay_where_a_redirect_leads_elsewhere() -> None:
    async with host_and_source() as (host, source):
        (found,) = await poll(source, host.url("/moved.xml"))
        assert {ref["feed_id"] for ref in found.refs} == {host.url("/moved.xml")}
        assert await poll(source, host.url("/moved.xml"), found.cursor) == []
    assert [status for _, status in host.answered] == [301, 200, 301, 304]


async def test_a_feed_that_is_gone_is_told_from_one_that_fails() -> None:
    async with host_and_source() as (host, source):
        host.status = {"/gone.xml": 410, "/down.xml": 503}
        with pytest.raises(FeedGoneError):
            await poll(source, host.url("/gone.xml"))
        for path in ("/down.xml", "/missing.xml", "/broken.xml"):
            with pytest.raises(SourceError) as raised:
                await poll(source, host.url(path))
            assert not isinstance(raised.value, FeedGoneError)


async def test_a_feed_that_cannot_be_had_fails_its_refs() -> None:
    async with host_and_source() as (_, source):
        ref = {"episode_id": "rss:1", "feed_id": "http://127.0.0.1:1/private.xml", "source_id": "x"}
        assert "not a public address" in str((await source.fetch([ref]))["rss:1"])


async def test_an_odd_etag_is_not_kept() -> None:
    class Odd:
        clock = StandingClock()

        async def get(self, url: str, **_: str) -> Fetched:
            return Fetched(url, "", None, FEED.encode(), etag='"\udce9"', last_modified="\x7f")

    (found,) = await poll(RssSource(Odd()), "https://pods.example/")  # type: ignore[arg-type]
    assert (found.cursor.etag, found.cursor.last_modified) == ("", "")


async def test_a_feed_that_the_parser_fails_on_is_one_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(rss, "feed_records", fail)
    async with host_and_source() as (host, source):
        with pytest.raises(SourceError, match="not a feed: RecursionError: too deep"):
            await poll(source, host.url("/feed.xml"))


def test_entities_bring_in_no_file() -> None:
    assert "root" not in parse_feed("https://pods.example/", LAUGHS.encode(), 5)["title"]
