"""A podcast index of our own: PodcastIndex's routes, headers and shapes over the demo catalogue.

    python -m streams.sources.demo_index --port 19094

The stages talk to it exactly as they talk to the real one, oddities included: `status` is the
string "true", `max` comes back as a string, a refusal is a bare string, categories may be null,
season 0 means none, a live episode has no duration. Transcripts and audio are served beside the
API. It binds to loopback, and its key and secret are no secrets.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import time
import wave
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from aiohttp import web

from streams.sources.demo_catalogue import (
    Catalogue,
    DemoEpisode,
    DemoShow,
    build_catalogue,
)
from streams.sources.demo_transcripts import RENDERINGS
from topology.settings import LOOPBACK

DEMO_KEY = "PODSTREAMDEMOKEY0001"
DEMO_SECRET = "open-secret-of-the-demo-index"  # noqa: S105  (guards nothing)
AUTH_WINDOW_S = 180
API = "/api/1.0"
DAY_S = 86_400
WORDS_WITHOUT_FULLTEXT = 100
NO_CATEGORIES = "Match Point"

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DemoIndex:
    """What the index says at a moment: ``clock`` gives unix seconds, ``started_at`` is its zero."""

    def __init__(
        self,
        catalogue: Catalogue,
        started_at: float,
        trickle_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._catalogue = catalogue
        self._started_at = started_at
        self._trickle_s = trickle_s
        self._clock = clock

    def published_at(self, episode: DemoEpisode) -> int:
        """Unix seconds at which an episode appears."""
        if episode.release is None:
            return int(self._started_at - (episode.age_s or 0))
        return int(self._started_at + (episode.release + 1) * self._trickle_s)

    def visible(self) -> list[DemoEpisode]:
        """What has been published by now, newest first."""
        now = self._clock()
        shown = [e for e in self._catalogue.episodes.values() if self.published_at(e) <= now]
        return sorted(shown, key=lambda e: (-self.published_at(e), e.episode_id))

    def app(self) -> web.Application:
        """The HTTP application."""
        app = web.Application(middlewares=[self._authorise])
        app.router.add_get(f"{API}/podcasts/trending", self._trending)
        app.router.add_get(f"{API}/podcasts/byfeedid", self._feed_by_id)
        app.router.add_get(f"{API}/episodes/byfeedid", self._episodes_by_feed)
        app.router.add_get(f"{API}/episodes/byid", self._episode_by_id)
        app.router.add_get(f"{API}/recent/episodes", self._recent_episodes)
        app.router.add_get(f"{API}/recent/data", self._recent_data)
        app.router.add_get("/transcripts/{name}", self._transcript)
        app.router.add_get("/audio/{name}", self._audio)
        return app

    # -- routes ------------------------------------------------------------------------------

    @web.middleware
    async def _authorise(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        guarded = request.path.startswith(API)
        if guarded and (refusal := refuse(request.headers, self._clock())):
            return web.Response(status=401, text=refusal)
        return await handler(request)

    async def _trending(self, request: web.Request) -> web.Response:
        limit = _limit(request, 40)
        wanted, unwanted = _names(request, "cat"), _names(request, "notcat")
        newest = self._newest_by_feed()
        shows = [
            show
            for show in sorted(self._catalogue.shows.values(), key=lambda s: -s.trend)
            if show.feed_id in newest
            and (not wanted or wanted & _category_words(show))
            and not unwanted & _category_words(show)
        ]
        feeds = []
        for show in shows[:limit]:
            feed = self._feed_json(show)
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
        show = self._catalogue.shows.get(int(asked)) if asked.isdecimal() else None
        return web.json_response(
            {
                "status": "true",
                "query": {"id": asked},
                "feed": self._feed_json(show) if show else [],
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
            self._episode_json(request, episode, listing=True)
            for episode in self.visible()
            if episode.feed_id in ids and self.published_at(episode) >= since
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
        episode = self._catalogue.episodes.get(int(asked)) if asked.isdecimal() else None
        found = episode is not None and self.published_at(episode) <= self._clock()
        return web.json_response(
            {
                "status": "true",
                "id": asked,
                "episode": self._episode_json(request, episode) if found and episode else [],
                "description": "Found matching item." if found else "Episode not found.",
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
            item = self._episode_json(request, episode)
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
        now = int(self._clock())
        limit, since = _limit(request, 1000), _number(request, "since", now - DAY_S)
        items = [
            {
                "episodeId": episode.episode_id,
                "episodeTitle": episode.title,
                "episodeTimestamp": self.published_at(episode),
                "episodeAdded": self.published_at(episode),
                "episodeDuration": episode.duration_s,
                "feedId": episode.feed_id,
            }
            for episode in self.visible()
            if self.published_at(episode) >= since
        ][:limit]
        return web.json_response(
            {
                "status": "true",
                "feedCount": 0,
                "itemCount": len(items),
                "max": str(limit),
                "since": since,
                "description": "Found matching data.",
                "data": {"position": 0, "feeds": [], "items": items},
                "nextSince": now,
            }
        )

    async def _transcript(self, request: web.Request) -> web.Response:
        stem, _, suffix = request.match_info["name"].rpartition(".")
        episode = self._catalogue.episodes.get(int(stem)) if stem.isdecimal() else None
        for name, rendering in RENDERINGS.items():
            if episode and rendering.suffix == suffix and name in episode.formats:
                return web.Response(
                    text=rendering.write(episode.lines),
                    content_type=_mime(name, episode.feed_id),
                    charset="utf-8",
                )
        raise web.HTTPNotFound

    async def _audio(self, request: web.Request) -> web.Response:
        return web.Response(body=_silence(), content_type="audio/wav")

    # -- shapes ------------------------------------------------------------------------------

    def _newest_by_feed(self) -> dict[int, int]:
        newest: dict[int, int] = {}
        for episode in self.visible():
            newest.setdefault(episode.feed_id, self.published_at(episode))
        return newest

    def _feed_json(self, show: DemoShow) -> Json:
        return {
            "id": show.feed_id,
            "url": f"https://feeds.example.com/{show.feed_id}.xml",
            "title": show.show.title,
            "description": f"{show.show.title}: {show.show.tagline}.",
            "author": " and ".join(show.show.hosts),
            "image": "",
            "artwork": "",
            "itunesId": None,
            "language": "en-US" if show.feed_id % 2 else "en",
            "explicit": show.explicit,
            "categories": None
            if show.show.title == NO_CATEGORIES
            else {str(subject.category_id): subject.name for subject in show.subjects},
        }

    def _episode_json(
        self, request: web.Request, episode: DemoEpisode, listing: bool = False
    ) -> Json:
        show = self._catalogue.shows[episode.feed_id]
        feed = self._feed_json(show)
        base = f"{request.scheme}://{request.host}"
        published = self.published_at(episode)
        description = episode.description
        if "fulltext" not in request.query:
            description = " ".join(description.split(" ")[:WORDS_WITHOUT_FULLTEXT])
        transcripts = [
            {
                "url": f"{base}/transcripts/{episode.episode_id}.{RENDERINGS[name].suffix}",
                "type": _mime(name, episode.feed_id),
            }
            for name in episode.formats
        ]
        item = {
            "id": episode.episode_id,
            "title": episode.title,
            "link": f"https://www.example.com/{show.feed_id}/{episode.number}",
            "description": description,
            "guid": f"demo-{episode.episode_id}",
            "datePublished": published,
            "datePublishedPretty": time.strftime(
                "%B %d, %Y %I:%M%p", time.gmtime(published)
            ).lower(),
            "dateCrawled": published,
            "enclosureUrl": f"{base}/audio/{episode.episode_id}.wav",
            "enclosureType": "audio/wav",
            "enclosureLength": len(_silence()),
            "duration": episode.duration_s,
            "explicit": int(show.explicit),
            "episode": episode.number,
            "episodeType": "full",
            "season": episode.season,
            "image": "",
            "feedItunesId": None,
            "feedImage": "",
            "feedId": show.feed_id,
            "feedTitle": feed["title"],
            "feedLanguage": feed["language"],
            "transcripts": transcripts,
            "persons": [{"name": name, "role": "host"} for name in show.show.hosts],
        }
        if listing:
            item["transcriptUrl"] = transcripts[0]["url"]
        return item


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


def _mime(name: str, feed_id: int) -> str:
    mimes = RENDERINGS[name].mimes
    return mimes[feed_id // 5 % len(mimes)]


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


@cache
def _silence() -> bytes:
    """A second of silence: something true for an enclosure's address to hold."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(b"\x80" * 8000)
    return buffer.getvalue()


def main(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on loopback.")],
    trickle_s: Annotated[float, typer.Option(min=0, help="Seconds between new episodes.")] = 10.0,
    seed: Annotated[int, typer.Option(help="Seed of the catalogue.")] = 7,
    started_at: Annotated[
        float | None,
        typer.Option(help="Unix seconds from which new episodes count; now if not given."),
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
    index = DemoIndex(build_catalogue(seed), started_at or time.time(), trickle_s)
    web.run_app(index.app(), host=LOOPBACK, port=port, print=None, access_log=None)


if __name__ == "__main__":
    typer.run(main)
