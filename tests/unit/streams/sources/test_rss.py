from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from streams.fetcher import GuardedFetcher
from streams.sources.base import SourceError
from streams.sources.rss import RssSource

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


@asynccontextmanager
async def rss_source() -> AsyncIterator[RssSource]:
    bodies = {"/feed.xml": FEED, "/broken.xml": "<rss><channel>", "/entities.xml": LAUGHS}

    async def serve(request: web.Request) -> web.Response:
        return web.Response(text=bodies[request.path], content_type="application/rss+xml")

    app = web.Application()
    for path in bodies:
        app.router.add_get(path, serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host = f"127.0.0.1:{runner.addresses[0][1]}"
    urls = [f"http://{host}{path}" for path in ("/missing.xml", "/broken.xml", "/feed.xml")]
    source = RssSource(GuardedFetcher([host]), [*urls, "http://127.0.0.1:1/private.xml"])
    try:
        yield source
    finally:
        await source.close()
        await runner.cleanup()


async def test_feeds_are_followed_and_bad_ones_left_out() -> None:
    async with rss_source() as source:
        refs = [ref async for batch in source.discover() for ref in batch]
        records = await source.fetch(
            [*refs, refs[0] | {"episode_id": "rss:x", "source_id": "gone"}]
        )
    assert sorted(ref["source_id"] for ref in refs) == ["g-1", "g-2"]
    assert isinstance(records.pop("rss:x"), SourceError)
    first = next(record for record in records.values() if record["guid"] == "g-1")
    assert first["title"] == "One & only"
    assert first["description"] == "About books"
    assert first["categories"] == ["Arts", "Books"]
    assert (first["duration_s"], first["explicit"], first["language"]) == (3723, True, "en-gb")
    assert first["transcripts"] == [{"url": "https://example.com/1.vtt", "type": "text/vtt"}]
    assert first["source"] == "rss"


async def test_a_feed_that_cannot_be_had_fails_its_refs() -> None:
    async with rss_source() as source:
        ref = {"episode_id": "rss:1", "feed_id": "http://127.0.0.1:1/private.xml", "source_id": "x"}
        assert "not a public address" in str((await source.fetch([ref]))["rss:1"])


async def test_entities_bring_in_no_file() -> None:
    async with rss_source() as source:
        async for _ in source.discover():
            pass
        url = source._feed_urls[0].replace("missing", "entities")
        feed = await source._read(url)
    assert "root" not in feed["title"]
