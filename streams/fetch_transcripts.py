"""Fetches and parses the best transcript of each episode into `episode-transcripts`.

What is not available now is not waited for: the record says `failed` and when it is tried again,
and the episode waits in a table whose topic is the retry topic, one record for each episode that
waits. The table is written by the stage that reads the episodes, so that one edited meanwhile
cannot be overtaken by a retry of its old links.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random

from streams.context import Context, Message, StateTable
from streams.core.episodes import IMPORT
from streams.core.language import usable_language
from streams.core.media import TRANSCRIPT
from streams.core.recent import RecentValues
from streams.core.retries import (
    Outcome,
    decode_retry,
    due_after,
    due_entries,
    encode_retry,
    retry_record,
)
from streams.core.transcripts import (
    format_of,
    no_transcript,
    rank_links,
    to_be_heard,
    transcript_record,
    with_attempt,
)
from streams.fetcher import Fetched, FetchError, GuardedFetcher, RefusedError, UnavailableError
from streams.newest import Place, newest_records
from streams.politeness import report_hosts
from streams.waiting import keep, still

REMEMBERED = 200_000
EPISODES_AT_ONCE = 32
RETRIES_AT_ONCE = 32
RETRY_EVERY_S = 5.0
QUICK_TRIES = 2
"""Tries of a link at once: a connection that was cut is worth a second one, a wait is not."""
LARGE_BYTES = 100_000
"""Bodies beyond this, and those whose language is to be found out, are read in a thread, so that
the event loop goes on meanwhile."""

Version = tuple[str, ...]
WITHDRAWN: Version = ("withdrawn",)


def register(context: Context) -> None:
    """Fetch for each new or changed episode; imported ones bring their transcripts along."""
    report_hosts(context)
    stage = TranscriptFetching(context)
    context.agent("episode-metadata", max_batch=EPISODES_AT_ONCE)(stage.fetch)
    context.timer(RETRY_EVERY_S)(stage.retry)


class TranscriptFetching:
    """The stage: its handler of episodes, its timer for retries, and what both must agree on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: StateTable = context.table("transcript_retries")
        self._intervals_s = context.settings.fetch_retry_s
        self._backoff_s = context.settings.fetch_backoff_s
        self._heard = context.settings.transcribe_audio
        """Whether another stage tells of the episodes that list no transcript."""
        self._newest: RecentValues[bytes, Version] = RecentValues(REMEMBERED)
        """The links of each episode that were fetched last, or are being fetched."""
        context.on_rebalance(self._newest.clear)

    async def fetch(self, messages: list[Message]) -> None:
        """Fetch for what is new in a batch: of each episode, its newest record counts."""
        newest = await newest_records(self._context, messages, "episode_id")
        wanted: dict[Place, dict[str, Any]] = {}
        waits: dict[Place, bytes | None] = {}
        for (partition, key), episode in newest.items():
            if episode is None:
                self._newest.put(key, WITHDRAWN)
            elif self._heard and to_be_heard(episode):
                self._newest.put(key, version_of(episode))
                waits[partition, key] = None
            elif episode["source"] != IMPORT and self._is_new(partition, key, episode):
                self._newest.put(key, version_of(episode))
                wanted[partition, key] = episode
        async with GuardedFetcher.from_settings(self._context.settings) as fetcher:
            outcomes = await asyncio.gather(
                *(_transcribe(fetcher, e, self._backoff_s) for e in wanted.values())
            )
        for place, outcome in zip(wanted, outcomes, strict=True):
            waits[place] = await self._tell(wanted[place], outcome, attempt=1)
        for place, episode in newest.items():
            if episode is None:
                await self._context.send("episode-transcripts", None, key=place[1])
                waits[place] = None
        # A table that is ahead of the topic would hide what was not told before a kill.
        await self._context.delivered()
        for place, wait in waits.items():
            keep(self._waiting, place, wait)

    async def retry(self) -> None:
        """Try again what is due, a few episodes of each partition."""
        async with GuardedFetcher.from_settings(self._context.settings) as fetcher:
            for partition in sorted(self._waiting.partitions()):
                entries = self._waiting.items(partition)
                due = due_entries(entries, time.time(), RETRIES_AT_ONCE)
                await asyncio.gather(
                    *(self._retry_one(fetcher, (partition, key), value) for key, value in due)
                )

    async def _retry_one(self, fetcher: GuardedFetcher, place: Place, value: bytes) -> None:
        waiting = decode_retry(value)
        outcome = await _transcribe(fetcher, waiting, self._backoff_s)
        # An edit or a withdrawal that came meanwhile counts, not this; it clears the table, too.
        superseded = self._newest.get(place[1]) not in (None, version_of(waiting))
        if superseded or not still(self._waiting, place, value):
            return
        wait = await self._tell(waiting, outcome, waiting["attempt"] + 1)
        await self._context.delivered()
        if still(self._waiting, place, value):
            keep(self._waiting, place, wait)

    def _is_new(self, partition: int, key: bytes, episode: Mapping[str, Any]) -> bool:
        """Whether these links of the episode were neither fetched by this worker nor wait."""
        version = version_of(episode)
        if self._newest.get(key) == version:
            return False
        waiting = self._waiting.get(partition, key)
        return waiting is None or version_of(decode_retry(waiting)) != version

    async def _tell(
        self, episode: Mapping[str, Any], outcome: Outcome, attempt: int
    ) -> bytes | None:
        """Send the record; what is to wait in the table, if it is to be tried again."""
        episode_id, due = episode["episode_id"], None
        if outcome.passing:
            due = due_after(attempt, time.time(), episode_id, self._intervals_s, outcome.until)
        record = with_attempt(outcome.record, attempt, due)
        await self._context.send("episode-transcripts", record, key=episode_id)
        return None if due is None else encode_retry(retry_record(episode, attempt, due))


def version_of(episode: Mapping[str, Any]) -> Version:
    """What a transcript depends on: the addresses that the episode, or its retry, lists."""
    return tuple(link["url"] for link in episode["transcripts"])


async def _transcribe(
    fetcher: GuardedFetcher, episode: Mapping[str, Any], backoff_s: float
) -> Outcome:
    """The transcript from the best link that delivers, or the fault of the best link, where one
    that may pass goes before one that lasts."""
    links = rank_links(episode["transcripts"])
    if not links:
        listed = len(episode["transcripts"])
        reason = f"none of {listed} links is in a format we read" if listed else "none is listed"
        return Outcome(no_transcript(episode, "none", reason))
    faults: list[Outcome] = []
    for link in links:
        outcome = await _from_link(fetcher, episode, link, backoff_s)
        if outcome.record["status"] == "ok":
            break
        faults.append(outcome)
    else:
        outcome = next((fault for fault in faults if fault.passing), faults[0])
    tried = [{name: fault.record[name] for name in ("url", "status", "reason")} for fault in faults]
    return replace(outcome, record=outcome.record | {"tried": tried})


async def _from_link(
    fetcher: GuardedFetcher, episode: Mapping[str, Any], link: Mapping[str, str], backoff_s: float
) -> Outcome:
    retrying = AsyncRetrying(
        stop=stop_after_attempt(QUICK_TRIES),
        wait=wait_random(0.4 * backoff_s, 2 * backoff_s),
        retry=retry_if_exception(_worth_a_second_try),
        reraise=True,
    )
    url = link["url"]
    try:
        found: Fetched = await retrying(fetcher.get, url, accept=TRANSCRIPT)
    except RefusedError as error:
        return Outcome(no_transcript(episode, "refused", str(error), url))
    except UnavailableError as error:
        failed = no_transcript(episode, "failed", str(error), url)
        return Outcome(failed, passing=True, until=error.until)
    except FetchError as error:
        return Outcome(no_transcript(episode, "failed", str(error), url))
    # What was listed counts: a server that sends a web page for a `.vtt` has none.
    mime = link["type"] if format_of(link["type"], url) else found.content_type
    typed = {"url": url, "type": mime}
    slow = len(found.body) > LARGE_BYTES or not usable_language(episode["language"])
    read = partial(transcript_record, episode, typed, found.body, found.charset)
    return Outcome(await asyncio.to_thread(read) if slow else read())


def _worth_a_second_try(error: BaseException) -> bool:
    """Whether the network may just have hiccupped, and nobody asks us to wait."""
    return isinstance(error, UnavailableError) and error.until is None
