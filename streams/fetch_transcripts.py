"""Fetches and parses the best transcript of each episode into `episode-transcripts`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from streams.context import Context, Message, decode_all
from streams.core.episodes import IMPORT
from streams.core.recent import RecentKeys
from streams.core.transcripts import no_transcript, rank_links, transcript_record
from streams.fetcher import Fetched, FetchError, GuardedFetcher, RefusedError, UnavailableError

REMEMBERED = 200_000
EPISODES_AT_ONCE = 32
ATTEMPTS = 3
LARGE_BYTES = 100_000
"""Bodies beyond this are parsed in a thread, so that the event loop goes on meanwhile."""


def register(context: Context) -> None:
    """Fetch for each new or changed episode; imported ones bring their transcripts along."""
    fetcher = GuardedFetcher.from_settings(context.settings)
    fetched = RecentKeys(REMEMBERED)

    @context.agent("episode-metadata", max_batch=EPISODES_AT_ONCE)
    async def fetch_transcripts(messages: list[Message]) -> None:
        # A compacted topic may hold tombstones: an episode deleted has no transcript to fetch.
        records = await decode_all(context, [m for m in messages if m.value is not None])
        episodes = {
            _version(episode): episode
            for _, episode in records
            if episode["source"] != IMPORT and _version(episode) not in fetched
        }
        async with fetcher:
            tasks = (
                _transcribe(fetcher, episode, context.settings.fetch_backoff_s)
                for episode in episodes.values()
            )
            transcripts = await asyncio.gather(*tasks)
        for version, transcript in zip(episodes, transcripts, strict=True):
            await context.send("episode-transcripts", transcript, key=transcript["episode_id"])
            fetched.add(version)


def _version(episode: Mapping[str, Any]) -> tuple[str, ...]:
    """What a transcript depends on: the episode and the addresses it lists."""
    return (episode["episode_id"], *(link["url"] for link in episode["transcripts"]))


async def _transcribe(
    fetcher: GuardedFetcher, episode: Mapping[str, Any], backoff_s: float
) -> dict[str, Any]:
    """The `transcript` record from the best link that delivers, or the best one's fault."""
    links = rank_links(episode["transcripts"])
    if not links:
        listed = len(episode["transcripts"])
        reason = f"none of {listed} links is in a format we read" if listed else "none is listed"
        return no_transcript(episode, "none", reason)
    faults = []
    for link in links:
        record = await _from_link(fetcher, episode, link, backoff_s)
        if record["status"] == "ok":
            return record
        faults.append(record)
    return faults[0]


async def _from_link(
    fetcher: GuardedFetcher, episode: Mapping[str, Any], link: Mapping[str, str], backoff_s: float
) -> dict[str, Any]:
    retrying = AsyncRetrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=backoff_s, max=10),
        retry=retry_if_exception_type(UnavailableError),
        reraise=True,
    )
    try:
        found: Fetched = await retrying(fetcher.get, link["url"])
    except RefusedError as error:
        return no_transcript(episode, "refused", str(error), link["url"])
    except FetchError as error:
        return no_transcript(episode, "failed", str(error), link["url"])
    typed = {"url": link["url"], "type": link["type"] or found.content_type}
    if len(found.body) > LARGE_BYTES:
        return await asyncio.to_thread(transcript_record, episode, typed, found.body, found.charset)
    return transcript_record(episode, typed, found.body, found.charset)
