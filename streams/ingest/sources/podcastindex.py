"""Episodes from PodcastIndex.com, or from any index that speaks its API.

API reference: https://podcastindex-org.github.io/docs-api/. The real index publishes no rate
limit and answers 429 beyond it, so that all workers together stay below a request a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    before_sleep_log,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)
from yarl import URL

from streams.http.fetcher import USER_AGENT
from streams.http.rate_limits import HostRateLimiter, HostUnavailableError
from streams.http.time_limits import time_limit
from streams.ingest.core.episodes import (
    EPOCH,
    PODCASTINDEX,
    EpisodeError,
    episode_from_podcastindex,
    index_id,
    utc_time,
)
from streams.ingest.core.following import Cursor
from streams.ingest.sources.base import Episode, Found, SourceError, UnavailableSourceError
from streams.ingest.sources.podcastindex_answers import (
    TurnedAwayError,
    answer_of,
    read_body,
    records_of,
)
from streams.ingest.sources.podcastindex_polls import EPISODES_A_FEED, MAX_RESULTS, poll_index
from streams.runtime.clock import Clock
from streams.state.recent import RecentValues
from streams.text.plain_text import clean
from topology.settings import Settings

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Fewer than failures that open a circuit: one bad answer must not keep others from asking."""
MAX_WAIT_S = 60.0
TIMEOUT_S = 30.0
CACHED_FEEDS = 10_000


class PodcastIndexClient:
    """The API's routes as coroutines: authorised, paced, retried; all may raise SourceError."""

    def __init__(
        self,
        base_url: str,
        key: str,
        secret: str,
        *,
        rate_limiter: HostRateLimiter | None = None,
        backoff_s: float = 1.0,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """``rate_limiter`` paces the requests by its clock; without one they go out as they come.

        ``backoff_s`` is the first wait after a failure, ``timeout_s`` the limit of one request.
        """
        self._base = URL(base_url.rstrip("/") + "/")
        self._key, self._secret = key, secret
        self._rate_limiter = rate_limiter or HostRateLimiter.unlimited()
        self.clock = self._rate_limiter.clock
        self._backoff = wait_random_exponential(multiplier=backoff_s, max=MAX_WAIT_S)
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Give the connections back; the client may be used again afterwards."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def trending(
        self, limit: int, languages: Sequence[str] = (), categories: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """Feeds, the most trending first; all of them, or those in one of the languages and
        of one of the categories."""
        query = {"lang": ",".join(languages), "cat": ",".join(categories)}
        asked = {name: value for name, value in query.items() if value}
        return records_of((await self._get("podcasts/trending", max=limit, **asked)).get("feeds"))

    async def feed(self, feed_id: str) -> dict[str, Any]:
        """One feed; empty if the index does not know it."""
        feed = (await self._get("podcasts/byfeedid", id=feed_id)).get("feed")
        return feed if isinstance(feed, dict) else {}

    async def episodes_of(
        self, feed_ids: Sequence[str], limit: int, since: int | None = None
    ) -> list[dict[str, Any]]:
        """Episodes of up to 200 feeds, newest first; ``limit`` is shared among the feeds.

        With ``since``, in unix seconds, those published from then on.
        """
        query: dict[str, str | int] = {"id": ",".join(feed_ids), "max": min(limit, MAX_RESULTS)}
        if since is not None:
            query["since"] = since
        return records_of((await self._get("episodes/byfeedid", **query, fulltext="")).get("items"))

    async def episode(self, episode_id: str) -> dict[str, Any]:
        """One episode; empty if the index does not know it."""
        answer = (await self._get("episodes/byid", id=episode_id, fulltext="")).get("episode")
        return answer if isinstance(answer, dict) else {}

    async def recent(self, since: int | None = None) -> tuple[list[dict[str, Any]], int | None]:
        """What came into the index lately, the newest first, and the ``since`` to go on with.

        Items are ``{"id", "feedId", "datePublished"}``. Without ``since`` (unix seconds) they are
        of the last day.
        """
        query = {} if since is None else {"since": since}
        answer = await self._get("recent/data", max=MAX_RESULTS, **query)
        data = answer.get("data")
        items = records_of(data.get("items") if isinstance(data, dict) else None)
        items.sort(key=lambda item: utc_time(item.get("episodeAdded")) or EPOCH, reverse=True)
        names = {"id": "episodeId", "feedId": "feedId", "datePublished": "episodeTimestamp"}
        found = [{ours: item.get(name) for ours, name in names.items()} for item in items]
        next_since = utc_time(answer.get("nextSince"))
        return found, int(next_since.timestamp()) if next_since else None

    async def _get(self, route: str, **query: str | int) -> dict[str, Any]:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=self._wait,
            retry=retry_if_exception(_worth_waiting),
            sleep=self.clock.sleep,
            before_sleep=before_sleep_log(log, logging.WARNING),
            reraise=True,
        )
        try:
            return await retrying(self._ask, route, query)
        except UnavailableSourceError as error:
            # Tries before the last one may have been what closed the way to it.
            error.asked |= retrying.statistics["attempt_number"] > 1
            raise

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, UnavailableSourceError) and error.after_s is not None:
            return error.after_s
        return self._backoff(state)

    async def _ask(self, route: str, query: Mapping[str, str | int]) -> dict[str, Any]:
        target = self._base.join(URL(route))
        try:
            async with (
                self._rate_limiter.permit(target, MAX_WAIT_S) as permit,
                time_limit(self.clock, self._timeout_s),
                self._open().get(
                    target,
                    params=query,
                    headers=self._headers(int(self.clock.now())),
                    allow_redirects=False,
                ) as response,
            ):
                wait_s = permit.answered(response.status, response.headers.get("Retry-After"))
                body = await read_body(response)
                try:
                    return answer_of(route, response.status, wait_s, body, self.clock.now())
                except UnavailableSourceError as error:
                    if response.status != 429 and response.status < 500:
                        # A web page where JSON was due, or no service for us: nobody else of us
                        # will fare better, so that its circuit opens.
                        permit.failed(str(error))
                    raise
        except HostUnavailableError as error:
            after_s = max(error.until - self.clock.now(), 0.0)
            raise UnavailableSourceError(f"{route}: {error}", after_s, asked=False) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            message = clean(f"{route}: {type(error).__name__}: {error}")
            raise UnavailableSourceError(message) from error

    def _headers(self, now: int) -> dict[str, str]:
        date = str(now)
        token = hashlib.sha1((self._key + self._secret + date).encode()).hexdigest()  # noqa: S324
        return {
            "User-Agent": USER_AGENT,
            "X-Auth-Key": self._key,
            "X-Auth-Date": date,
            "Authorization": token,
        }

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The time limit of a request is set around it.
                timeout=aiohttp.ClientTimeout(),
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=8),
            )
        return self._session


class PodcastIndexSource:
    """`Source` on a PodcastIndexClient."""

    name = PODCASTINDEX

    def __init__(self, client: PodcastIndexClient) -> None:
        self._client = client
        self._feeds: RecentValues[str, dict[str, Any]] = RecentValues(CACHED_FEEDS)

    @classmethod
    def from_settings(cls, settings: Settings, clock: Clock) -> PodcastIndexSource:
        """The index of the settings, with the rates that all stages of the process share."""
        return cls(
            PodcastIndexClient(
                settings.podcastindex_url,
                settings.podcastindex_key.get_secret_value(),
                settings.podcastindex_secret.get_secret_value(),
                rate_limiter=HostRateLimiter.of(settings, clock),
                backoff_s=settings.fetch_backoff_s,
                timeout_s=settings.fetch_timeout_s,
            )
        )

    async def close(self) -> None:
        """Give connections back."""
        await self._client.close()

    def poll(self, subscription: Mapping[str, Any], cursor: Cursor) -> AsyncIterator[Found]:
        """What has changed since the cursor, the most wanted first: see `poll_index`."""
        return poll_index(self._client, subscription, cursor, self._client.clock)

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
        asked = await asyncio.gather(*(self._item(ref, items) for ref in refs))
        found = list(zip(refs, asked, strict=True))
        feeds = dict.fromkeys(r["feed_id"] for r, item in found if isinstance(item, dict))
        faults = await asyncio.gather(*(self._load_feed(feed) for feed in feeds))
        missing = dict(zip(feeds, faults, strict=True))
        return {
            ref["episode_id"]: item
            if isinstance(item, SourceError)
            else self._record(ref, item, missing[ref["feed_id"]])
            for ref, item in found
        }

    async def _item(
        self, ref: Mapping[str, Any], listed: Mapping[str, dict[str, Any]]
    ) -> dict[str, Any] | SourceError:
        """What the index says of an episode."""
        try:
            item = listed.get(ref["source_id"]) or await self._client.episode(ref["source_id"])
        except SourceError as error:
            return error
        return item or SourceError("the index does not know the episode")

    def _record(
        self,
        ref: Mapping[str, Any],
        item: Mapping[str, Any],
        no_feed: UnavailableSourceError | None,
    ) -> Episode | SourceError:
        try:
            record = episode_from_podcastindex(item, self._feeds.get(ref["feed_id"]))
        except EpisodeError as error:
            return UnavailableSourceError(f"the index answered oddly: {error}")
        if record["episode_id"] != ref["episode_id"]:
            return UnavailableSourceError("the index answered with another episode")
        if no_feed is not None:
            why = f"its feed, for the categories: {no_feed}"
            return UnavailableSourceError(why, no_feed.after_s, asked=no_feed.asked, instead=record)
        return record

    async def _load_feed(self, feed_id: str) -> UnavailableSourceError | None:
        """Have the feed of an episode at hand, for its categories; there are none if the index
        does not have it. The error says that it may have it later."""
        if self._feeds.get(feed_id) is not None:
            return None
        try:
            self._feeds.put(feed_id, await self._client.feed(feed_id))
        except UnavailableSourceError as error:
            return error
        except SourceError as error:
            log.warning("feed %s: no categories: %s", feed_id, error)
        return None


def _worth_waiting(error: BaseException) -> bool:
    """Whether another try belongs into this request, rather than to whoever asks next time."""
    if not isinstance(error, UnavailableSourceError) or not error.asked:
        return False
    if isinstance(error, TurnedAwayError):
        return False
    return error.after_s is None or error.after_s <= MAX_WAIT_S
