"""Episodes from PodcastIndex.com, or from any index that speaks its API.

API reference: https://podcastindex-org.github.io/docs-api/. The real index publishes no rate
limit and answers 429 beyond it, so that requests to it go out less than once a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    before_sleep_log,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)
from yarl import URL

from streams.core.episodes import (
    EPOCH,
    PODCASTINDEX,
    EpisodeError,
    episode_from_podcastindex,
    index_id,
    podcastindex_ref,
    utc_time,
)
from streams.fetcher import USER_AGENT
from streams.sources.base import Episode, Ref, SourceError
from topology.settings import Settings

log = logging.getLogger(__name__)

POLITE_INTERVAL_S = 1.1
ATTEMPTS = 5
MAX_WAIT_S = 60.0
TIMEOUT_S = 30.0
MAX_BYTES = 50_000_000
IDS_A_REQUEST = 200
MAX_RESULTS = 1000

TRENDING_FEEDS = 50
FIRST_EPISODES = 5
"""Newest episodes of each trending show that come before anything else."""
EPISODES_A_FEED = 20
RECENT_EPISODES = 60
CACHED_FEEDS = 10_000


class RetryableError(SourceError):
    """An answer that another try may better; ``after_s`` is how long the server asks to wait."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class PodcastIndexClient:
    """The API's routes as coroutines: authorised, paced, retried; all may raise SourceError."""

    def __init__(
        self,
        base_url: str,
        key: str,
        secret: str,
        *,
        interval_s: float | None = None,
        backoff_s: float = 1.0,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """``interval_s`` between requests is by default the polite one, and none on loopback."""
        self._base = URL(base_url.rstrip("/") + "/")
        self._key, self._secret = key, secret
        loopback = self._base.host in ("127.0.0.1", "::1", "localhost")
        self._interval_s = (
            (0 if loopback else POLITE_INTERVAL_S) if interval_s is None else interval_s
        )
        self._backoff = wait_random_exponential(multiplier=backoff_s, max=MAX_WAIT_S)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._next_at = 0.0

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def trending(self, limit: int) -> list[dict[str, Any]]:
        """Feeds, the most trending first."""
        return _records((await self._get("podcasts/trending", max=limit)).get("feeds"))

    async def feed(self, feed_id: str) -> dict[str, Any]:
        """One feed; empty if the index does not know it."""
        feed = (await self._get("podcasts/byfeedid", id=feed_id)).get("feed")
        return feed if isinstance(feed, dict) else {}

    async def episodes_of(self, feed_ids: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """Episodes of up to 200 feeds, newest first; ``limit`` is shared among the feeds."""
        answer = await self._get(
            "episodes/byfeedid", id=",".join(feed_ids), max=min(limit, MAX_RESULTS), fulltext=""
        )
        return _records(answer.get("items"))

    async def episode(self, episode_id: str) -> dict[str, Any]:
        """One episode; empty if the index does not know it."""
        answer = (await self._get("episodes/byid", id=episode_id, fulltext="")).get("episode")
        return answer if isinstance(answer, dict) else {}

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        """The newest episodes of all feeds."""
        return _records((await self._get("recent/episodes", max=limit)).get("items"))

    async def _get(self, route: str, **query: str | int) -> dict[str, Any]:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=self._wait,
            retry=retry_if_exception_type(RetryableError),
            before_sleep=before_sleep_log(log, logging.WARNING),
            reraise=True,
        )
        return await retrying(self._ask, route, query)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RetryableError) and error.after_s is not None:
            return min(error.after_s, MAX_WAIT_S)
        return self._backoff(state)

    async def _ask(self, route: str, query: Mapping[str, str | int]) -> dict[str, Any]:
        await self._pace()
        try:
            async with self._open().get(
                self._base.join(URL(route)),
                params=query,
                headers=self._headers(int(time.time())),
                allow_redirects=False,
            ) as response:
                body = await _read_body(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RetryableError(f"{route}: {type(error).__name__}: {error}") from error
        return _answer(route, response.status, response.headers, body)

    def _headers(self, now: int) -> dict[str, str]:
        date = str(now)
        token = hashlib.sha1((self._key + self._secret + date).encode()).hexdigest()  # noqa: S324
        return {
            "User-Agent": USER_AGENT,
            "X-Auth-Key": self._key,
            "X-Auth-Date": date,
            "Authorization": token,
        }

    async def _pace(self) -> None:
        """Wait for this request's turn; turns are ``interval_s`` apart."""
        if self._interval_s:
            now = time.monotonic()
            turn = max(now, self._next_at)
            self._next_at = turn + self._interval_s
            await asyncio.sleep(turn - now)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=8),
            )
        return self._session


class PodcastIndexSource:
    """`Source` on a PodcastIndexClient."""

    name = PODCASTINDEX

    def __init__(self, client: PodcastIndexClient) -> None:
        self._client = client
        self._feeds: OrderedDict[str, dict[str, Any]] = OrderedDict()

    @classmethod
    def from_settings(cls, settings: Settings) -> PodcastIndexSource:
        return cls(
            PodcastIndexClient(
                settings.podcastindex_url,
                settings.podcastindex_key.get_secret_value(),
                settings.podcastindex_secret.get_secret_value(),
                backoff_s=settings.fetch_backoff_s,
                timeout_s=settings.fetch_timeout_s,
            )
        )

    async def close(self) -> None:
        await self._client.close()

    async def discover(self) -> AsyncIterator[list[Ref]]:
        """The newest episodes of each trending show, more of each, then what is new anywhere."""
        trending = await self._client.trending(TRENDING_FEEDS)
        ids = (index_id(feed.get("id")) for feed in trending)
        feeds = list(dict.fromkeys(str(feed) for feed in ids if feed))
        by_feed = await self._newest_of(feeds)
        found_at = _now()
        ranked = [by_feed[feed] for feed in feeds if feed in by_feed]
        yield _refs(
            (item for items in ranked for item in items[:FIRST_EPISODES]), "trending", found_at
        )
        yield _refs(
            (item for items in ranked for item in items[FIRST_EPISODES:EPISODES_A_FEED]),
            "trending",
            found_at,
        )
        yield _refs(await self._client.recent(RECENT_EPISODES), "recent", _now())

    async def fetch(self, refs: Sequence[Mapping[str, Any]]) -> dict[str, Episode | SourceError]:
        """Feeds of which several episodes are wanted are listed once; the rest comes one by one."""
        wanted: dict[str, list[Mapping[str, Any]]] = {}
        for ref in refs:
            wanted.setdefault(ref["feed_id"], []).append(ref)
        items: dict[str, dict[str, Any]] = {}
        several = [feed for feed, group in wanted.items() if len(group) > 1]
        if several:
            try:
                limit = EPISODES_A_FEED * len(several)
                for item in await self._client.episodes_of(several, limit):
                    items[str(index_id(item.get("id")))] = item
            except SourceError as error:
                log.warning("listing %d feeds failed, asking one by one: %s", len(several), error)
        await asyncio.gather(*(self._load_feed(feed) for feed in wanted))
        records = await asyncio.gather(*(self._record(ref, items) for ref in refs))
        return {ref["episode_id"]: record for ref, record in zip(refs, records, strict=True)}

    async def _record(
        self, ref: Mapping[str, Any], listed: Mapping[str, dict[str, Any]]
    ) -> Episode | SourceError:
        try:
            item = listed.get(ref["source_id"]) or await self._client.episode(ref["source_id"])
            if not item:
                return SourceError("the index does not know the episode")
            record = episode_from_podcastindex(item, self._feeds.get(ref["feed_id"]))
            if record["episode_id"] != ref["episode_id"]:
                return SourceError("the index answered with another episode")
            return record
        except (SourceError, EpisodeError) as error:
            return error if isinstance(error, SourceError) else SourceError(str(error))

    async def _load_feed(self, feed_id: str) -> None:
        """Have the feed of an episode at hand, for its categories; without it there are none."""
        if feed_id in self._feeds:
            return
        try:
            self._feeds[feed_id] = await self._client.feed(feed_id)
        except SourceError as error:
            log.warning("feed %s: no categories: %s", feed_id, error)
            return
        if len(self._feeds) > CACHED_FEEDS:
            self._feeds.popitem(last=False)

    async def _newest_of(self, feed_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """The newest episodes of each feed, by feed.

        As ``max`` is shared, busy feeds may crowd out others: those are asked for again.
        """
        by_feed: dict[str, list[dict[str, Any]]] = {}
        missing = list(feed_ids)
        while missing:
            asked, missing = missing[:IDS_A_REQUEST], missing[IDS_A_REQUEST:]
            items = await self._client.episodes_of(asked, EPISODES_A_FEED * len(asked))
            found: dict[str, list[dict[str, Any]]] = {}
            for item in items:
                # Only what was asked for counts, or an index that mixes up feeds is asked for ever.
                if (feed := str(index_id(item.get("feedId")))) in asked:
                    found.setdefault(feed, []).append(item)
            by_feed |= found
            starved = [feed for feed in asked if feed not in found]
            if found and len(items) >= min(EPISODES_A_FEED * len(asked), MAX_RESULTS):
                missing += starved
        for items in by_feed.values():
            items.sort(key=lambda item: utc_time(item.get("datePublished")) or EPOCH, reverse=True)
        return by_feed


def _refs(items: Iterable[Mapping[str, Any]], found_by: str, found_at: datetime) -> list[Ref]:
    refs = []
    for item in items:
        try:
            refs.append(podcastindex_ref(item, found_by, found_at))
        except EpisodeError as error:
            log.warning("an item of the index is left out: %s", error)
    return refs


def _now() -> datetime:
    return datetime.now(UTC)


def _records(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > MAX_BYTES:
            raise SourceError(f"an answer of more than {MAX_BYTES} bytes")
    return bytes(body)


def _answer(route: str, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """The JSON object of an answer, or the error that its status and body mean."""
    start = body[:200].decode("utf-8", "replace").strip()
    if status == 429 or status >= 500:
        raise RetryableError(f"{route}: HTTP {status}", _retry_after(headers))
    if status != 200:
        raise SourceError(f"{route}: HTTP {status}: {start}")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        # A web page with status 200 is a proxy's or the index's own bad moment.
        raise RetryableError(f"{route}: not JSON: {start[:60]}") from error
    if not isinstance(parsed, dict) or str(parsed.get("status")).lower() != "true":
        said = parsed.get("description") if isinstance(parsed, dict) else None
        raise SourceError(f"{route}: {str(said or start)[:200]}")
    return parsed


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdecimal() else None
