"""The demo index with more shows, a network's delay, and a gate that holds requests until told.

    python index.py PORT COPIES DELAY_MS

GET `/gate/open` lets everybody in.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from streams.demo.demo_catalogue import Catalogue, build_catalogue
from streams.demo.demo_index import DemoIndex

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def enlarged(copies: int) -> Catalogue:
    """Every show so many times, under ids of its own; all episodes are out."""
    one = build_catalogue()
    shows, episodes = {}, {}
    for copy in range(copies):
        feeds, numbers = copy * len(one.shows), copy * len(one.episodes)
        for show in one.shows.values():
            shows[show.feed_id + feeds] = replace(show, feed_id=show.feed_id + feeds)
        for known in one.episodes.values():
            episode = replace(
                known,
                episode_id=known.episode_id + numbers,
                feed_id=known.feed_id + feeds,
                age_s=known.age_s or 60 * (known.release or 1),
                release=None,
            )
            episodes[episode.episode_id] = episode
    return Catalogue(shows, episodes)


def delayed_and_gated(delay_s: float) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A middleware that answers after a delay, and not before the gate is open."""
    opened = asyncio.Event()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/gate/open":
            opened.set()
            return web.Response()
        await opened.wait()
        await asyncio.sleep(delay_s)
        return await handler(request)

    return middleware


def main() -> None:
    """Serve the demo index so many times, each answer late by so much."""
    port, copies, delay_ms = (int(argument) for argument in sys.argv[1:])
    app = DemoIndex(enlarged(copies), time.time()).app()
    app.middlewares.insert(0, delayed_and_gated(delay_ms / 1000))
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main()
