"""What the demo index serves beside the API: RSS feeds, and tools for trying things out."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime

from aiohttp import ETag, web

from streams.demo.demo_faults import LOOP
from streams.demo.demo_feeds import entity_tag, write_feed, write_opml
from streams.demo.demo_publisher import Publisher
from streams.demo.demo_shapes import Json
from streams.demo.misbehaviour import TOOLS


def base_url(request: web.Request) -> str:
    """The index's own address as whoever asks knows it."""
    return f"{request.scheme}://{request.host}"


def add_feeds(app: web.Application, publisher: Publisher) -> None:
    """Feeds under `/feeds/ID.xml`, with ETag and Last-Modified, and `/feeds.opml`."""

    async def feed(request: web.Request) -> web.Response:
        feed_id = int(request.match_info["feed_id"])
        show = publisher.catalogue.shows.get(feed_id)
        if show is None:
            raise web.HTTPNotFound
        body = write_feed(publisher, show, base_url(request))
        changed_at = datetime.fromtimestamp(publisher.feed_changed_at(feed_id), UTC)
        tag = entity_tag(body)
        known, since = request.if_none_match, request.if_modified_since
        # As HTTP has it: the date counts only for who names no ETag.
        unchanged = ETag(tag) in known if known else since is not None and changed_at <= since
        response = (
            web.Response(status=304)
            if unchanged
            else web.Response(body=body, content_type="application/rss+xml", charset="utf-8")
        )
        response.etag, response.last_modified = ETag(tag), changed_at
        return response

    async def opml(request: web.Request) -> web.Response:
        body = write_opml(publisher.catalogue.shows.values(), base_url(request))
        return web.Response(body=body, content_type="text/x-opml")

    app.router.add_get(r"/feeds/{feed_id:\d+}.xml", feed)
    app.router.add_get("/feeds.opml", opml)


def add_tools(app: web.Application, publisher: Publisher, counts: Callable[[], Json]) -> None:
    """What was asked for so far, and the edits and withdrawals of a publisher."""

    async def requests(_: web.Request) -> web.Response:
        return web.json_response(counts())

    async def loop(_: web.Request) -> web.Response:
        raise web.HTTPFound(LOOP)

    async def edit(request: web.Request) -> web.Response:
        asked = await _asked_here(request)
        new = {name: asked.get(name) for name in ("title", "description")}
        if not all(text is None or isinstance(text, str) for text in new.values()):
            raise web.HTTPBadRequest(text="title and description are strings")
        if not publisher.edit(int(request.match_info["episode_id"]), **new):
            raise web.HTTPNotFound
        return web.json_response({"edited": True})

    async def withdraw(request: web.Request) -> web.Response:
        await _asked_here(request)
        if not publisher.withdraw(int(request.match_info["episode_id"])):
            raise web.HTTPNotFound
        return web.json_response({"withdrawn": True})

    app.router.add_get(f"{TOOLS}/requests", requests)
    app.router.add_get(LOOP, loop)
    app.router.add_post(TOOLS + r"/edit/{episode_id:\d+}", edit)
    app.router.add_post(TOOLS + r"/withdraw/{episode_id:\d+}", withdraw)


async def _asked_here(request: web.Request) -> Json:
    """The JSON object of a request from this machine; 403 or 415 for any other.

    The content type keeps web pages out: a browser would ask first, and gets no answer.
    """
    if not ipaddress.ip_address(request.remote or "0.0.0.0").is_loopback:  # noqa: S104
        raise web.HTTPForbidden
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType
    try:
        asked = await request.json()
    except ValueError:
        raise web.HTTPBadRequest(text="not JSON") from None
    if not isinstance(asked, dict):
        raise web.HTTPBadRequest(text="not a JSON object")
    return asked
