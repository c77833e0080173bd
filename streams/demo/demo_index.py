"""A podcast index of our own: PodcastIndex's routes, headers and shapes over the demo catalogue.

    python -m streams.demo.demo_index --port 19094 [--misbehave SEED[:RATE]]

The stages talk to it exactly as they talk to the real one, oddities included: `status` is the
string "true", `max` comes back as a string, a refusal is a bare string, categories may be null,
season 0 means none, a live episode has no duration. Transcripts, audio, RSS feeds and an OPML list
of them are served beside the API. It binds to loopback, and its key and secret are no secrets.

Routes for whoever tries things out: GET `/demo/requests` counts what was asked for; POST
`/demo/edit/ID` with a JSON object of `title` and `description`, and POST `/demo/withdraw/ID`, do
what publishers do. `misbehaviour.py` tells what ``--misbehave`` does.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from aiohttp import web

from streams.demo.demo_catalogue import Catalogue, DemoEpisode, DemoShow, build_catalogue
from streams.demo.demo_publisher import Publisher
from streams.demo.demo_routes import add_feeds, add_tools, base_url
from streams.demo.demo_shapes import (
    Json,
    added_episode_json,
    added_feed_json,
    episode_json,
    feed_json,
    mime,
    silence,
)
from streams.demo.demo_transcripts import RENDERINGS
from streams.demo.misbehaviour import Misbehaviour, Plan, RequestLog
from topology.settings import LOOPBACK

DEMO_KEY = "PODSTREAMDEMOKEY0001"
DEMO_SECRET = "open-secret-of-the-demo-index"  # noqa: S105  (guards nothing)
AUTH_WINDOW_S = 180
API = "/api/1.0"
DAY_S = 86_400

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DemoIndex:
    """What the index answers at a moment; parameters as of `Publisher`.

    ``misbehaviour`` comes between the routes and whoever asks.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        started_at: float,
        trickle_s: float = 10.0,
        clock: Callable[[], float] = time.time,
        misbehaviour: Misbehaviour | None = None,
    ) -> None:
        self._publisher = Publisher(catalogue, started_at, trickle_s, clock)
        self._requests = RequestLog(clock)
        self._misbehaviour = misbehaviour

    def visible(self) -> list[DemoEpisode]:
        """What has been published by now, newest first."""
        return self._publisher.visible()

    def app(self) -> web.Application:
        """The HTTP application."""
        middlewares = [self._requests.middleware, self._authorise]
        if self._misbehaviour is not None:
            middlewares.append(self._misbehaviour.middleware)
        app = web.Application(middlewares=middlewares)
        app.router.add_get(f"{API}/podcasts/trending", self._trending)
        app.router.add_get(f"{API}/podcasts/byfeedid", self._feed_by_id)
        app.router.add_get(f"{API}/episodes/byfeedid", self._episodes_by_feed)
        app.router.add_get(f"{API}/episodes/byid", self._episode_by_id)
        app.router.add_get(f"{API}/recent/episodes", self._recent_episodes)
        app.router.add_get(f"{API}/recent/data", self._recent_data)
        app.router.add_get("/transcripts/{name}", self._transcript)
        app.router.add_get("/audio/{name}", self._audio)
        add_feeds(app, self._publisher)
        add_tools(app, self._publisher, self._counts)
        return app

    def _counts(self) -> Json:
        faults = self._misbehaviour.shown if self._misbehaviour else {}
        return {**self._requests.counts(), "faults": faults}

    # -- routes ------------------------------------------------------------------------------

    @web.middleware
    async def _authorise(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        guarded = request.path.startswith(API)
        if guarded and (refusal := refuse(request.headers, self._publisher.now())):
            return web.Response(status=401, text=refusal)
        return await handler(request)

    async def _trending(self, request: web.Request) -> web.Response:
        limit = _limit(request, 40)
        wanted, unwanted = _names(request, "cat"), _names(request, "notcat")
        newest = self._newest_by_feed()
        shows = [
            show
            for show in sorted(self._publisher.catalogue.shows.values(), key=lambda s: -s.trend)
            if show.feed_id in newest
            and (not wanted or wanted & _category_words(show))
            and not unwanted & _category_words(show)
        ]
        feeds = []
        for show in shows[:limit]:
            feed = feed_json(show, base_url(request))
            feed["newestItemPublishTime"] = newest[show.feed_id]
            feed["trendScore"] = show.trend
            feeds.append(feed)
        return web.json_response(
            {
                "status": "true",
                "feeds": feeds,
                "count": len(feeds),
                "max": str(limit),
                "since": None,
                "description": "Found matching feeds.",
            }
        )

    async def _feed_by_id(self, request: web.Request) -> web.Response:
        asked = request.query.get("id", "")
        show = self._publisher.catalogue.shows.get(int(asked)) if asked.isdecimal() else None
        return web.json_response(
            {
                "status": "true",
                "query": {"id": asked},
                "feed": feed_json(show, base_url(request)) if show else [],
                "description": "Found matching feed." if show else "No feeds match this id.",
            }
        )

    async def _episodes_by_feed(self, request: web.Request) -> web.Response:
        asked = request.query.get("id", "")
        ids = {int(part) for part in asked.split(",") if part.strip().isdecimal()}
        if not ids or len(ids) > 200:
            return web.Response(
                status=400, text="<html><body>Bad request</body></html>", content_type="text/html"
            )
        limit, since = _limit(request, 10), _number(request, "since", 0)
        items = [
            self._listed(request, episode)
            for episode in self.visible()
            if episode.feed_id in ids and self._publisher.published_at(episode) >= since
        ][:limit]
        return web.json_response(
            {
                "status": "true",
                "liveItems": [],
                "items": items,
                "count": len(items),
                "query": asked,
                "description": "Found matching items.",
            }
        )

    async def _episode_by_id(self, request: web.Request) -> web.Response:
        asked = request.query.get("id", "")
        episode = self._publisher.find(int(asked)) if asked.isdecimal() else None
        return web.json_response(
            {
                "status": "true",
                "id": asked,
                "episode": self._episode(request, episode) if episode else [],
                "description": "Found matching item." if episode else "Episode not found.",
            }
        )

    async def _recent_episodes(self, request: web.Request) -> web.Response:
        limit, before = _limit(request, 10), _number(request, "before", None)
        left_out = request.query.get("excludeString", "").lower()
        items = []
        for episode in self.visible():
            if before is not None and episode.episode_id >= before:
                continue
            if left_out and left_out in episode.title.lower():
                continue
            item = self._episode(request, episode)
            for absent in ("duration", "transcripts", "persons"):
                del item[absent]
            items.append(item)
        items = items[:limit]
        return web.json_response(
            {
                "status": "true",
                "items": items,
                "count": len(items),
                "max": str(limit),
                "description": "Found matching items.",
            }
        )

    async def _recent_data(self, request: web.Request) -> web.Response:
        """Pages run from old to new: those of one second stay together, none is left out."""
        limit = _limit(request, 1000)
        since = _number(request, "since", int(self._publisher.now()) - DAY_S)
        added = self._publisher.published_at
        episodes = [e for e in reversed(self.visible()) if added(e) >= since]
        if len(episodes) > limit:
            last = added(episodes[limit - 1])
            episodes = [e for e in episodes if added(e) <= last]
        oldest = {e.feed_id: e for e in self.visible()}
        feeds = [
            self._publisher.catalogue.shows[e.feed_id]
            for e in episodes
            if oldest[e.feed_id].episode_id == e.episode_id
        ]
        base = base_url(request)
        return web.json_response(
            {
                "status": "true",
                "feedCount": len(feeds),
                "itemCount": len(episodes),
                "max": str(limit),
                "since": since,
                "description": "Found matching data.",
                "nextSince": added(episodes[-1]) + 1 if episodes else since,
                "data": {
                    "position": 0,
                    "feeds": [added_feed_json(show, base) for show in reversed(feeds)],
                    "items": [
                        added_episode_json(self._publisher, e, base) for e in reversed(episodes)
                    ],
                },
            }
        )

    async def _transcript(self, request: web.Request) -> web.Response:
        stem, _, suffix = request.match_info["name"].rpartition(".")
        episode = self._publisher.find(int(stem)) if stem.isdecimal() else None
        for name, rendering in RENDERINGS.items():
            if episode and rendering.suffix == suffix and name in episode.formats:
                return web.Response(
                    text=rendering.write(episode.lines),
                    content_type=mime(name, episode.feed_id),
                    charset="utf-8",
                )
        raise web.HTTPNotFound

    async def _audio(self, request: web.Request) -> web.Response:
        return web.Response(body=silence(), content_type="audio/wav")

    # -- shapes ------------------------------------------------------------------------------

    def _newest_by_feed(self) -> dict[int, int]:
        newest: dict[int, int] = {}
        for episode in self.visible():
            newest.setdefault(episode.feed_id, self._publisher.published_at(episode))
        return newest

    def _episode(self, request: web.Request, episode: DemoEpisode) -> Json:
        fulltext = "fulltext" in request.query
        return episode_json(self._publisher, episode, base_url(request), fulltext)

    def _listed(self, request: web.Request, episode: DemoEpisode) -> Json:
        item = self._episode(request, episode)
        return {**item, "transcriptUrl": item["transcripts"][0]["url"]}


def refuse(headers: Any, now: float) -> str:
    """Why a request is not let in, in the index's bare words; empty if it is."""
    if not headers.get("User-Agent", "").strip():
        return "User-Agent header is not set or blank."
    for name in ("X-Auth-Key", "X-Auth-Date", "Authorization"):
        if not headers.get(name, "").strip():
            return f"{name} header is not set or blank."
    date = headers["X-Auth-Date"]
    if not date.isdecimal() or abs(now - int(date)) > AUTH_WINDOW_S:
        return "X-Auth-Date is outside of the allowed window."
    expected = hashlib.sha1((DEMO_KEY + DEMO_SECRET + date).encode()).hexdigest()  # noqa: S324
    known = hmac.compare_digest(headers["X-Auth-Key"].encode(), DEMO_KEY.encode())
    if not known or not hmac.compare_digest(headers["Authorization"].encode(), expected.encode()):
        return "Authorization header does not match."
    return ""


def _limit(request: web.Request, default: int) -> int:
    return min(max(_number(request, "max", default) or default, 1), 1000)


def _number(request: web.Request, name: str, default: int | None) -> Any:
    value = request.query.get(name, "")
    return int(value) if value.isdecimal() else default


def _names(request: web.Request, name: str) -> set[str]:
    return {part.strip().lower() for part in request.query.get(name, "").split(",") if part.strip()}


def _category_words(show: DemoShow) -> set[str]:
    """Category ids and names in lower case, as `cat` and `notcat` may give either."""
    return {
        word
        for subject in show.subjects
        for word in (subject.name.lower(), str(subject.category_id))
    }


def main(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on loopback.")],
    trickle_s: Annotated[float, typer.Option(min=0, help="Seconds between new episodes.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Seed of the catalogue.")] = 7,
    started_at: Annotated[
        float | None,
        typer.Option(help="Unix seconds from which new episodes count; now if not given."),
    ] = None,
    misbehave: Annotated[
        str, typer.Option(help="SEED[:RATE]: how often to answer badly, and in which order.")
    ] = "",
    poison: Annotated[
        list[int] | None, typer.Option(help="An episode of which no details are ever given.")
    ] = None,
    remember: Annotated[
        Path | None,
        typer.Option(help="File that keeps the first start, so that a restart goes on from it."),
    ] = None,
) -> None:
    """Serve the demo index until interrupted."""
    if remember is not None and started_at is None:
        if not remember.exists():
            remember.write_text(str(time.time()), encoding="ascii")
        started_at = float(remember.read_text(encoding="ascii"))
    misbehaviour = None
    if misbehave:
        try:
            plan = Plan.from_text(misbehave, frozenset(poison or ()))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--misbehave") from error
        misbehaviour = Misbehaviour(plan)
    index = DemoIndex(
        build_catalogue(seed), started_at or time.time(), trickle_s, misbehaviour=misbehaviour
    )
    web.run_app(index.app(), host=LOOPBACK, port=port, print=None, access_log=None)


if __name__ == "__main__":
    typer.run(main)
