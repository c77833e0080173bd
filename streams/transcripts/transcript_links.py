"""Fetches and parses the best transcript that the links of an episode deliver."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random

from streams.http.fetcher import Fetched, GuardedFetcher
from streams.http.guard import FetchError, RefusedError, UnavailableError
from streams.http.media import TRANSCRIPT
from streams.http.time_limits import time_limit
from streams.transcripts.core.language import usable_language
from streams.transcripts.core.retries import TranscriptOutcome
from streams.transcripts.core.transcripts import (
    format_of,
    no_transcript,
    rank_links,
    transcript_record,
)

MOST_LINKS = 6
"""Links of an episode that are tried, the best ones: publishers list one for each format, of which
there are five, and somebody else's thousand links are not to be worked through."""
QUICK_TRIES = 2
"""Tries of a link at once: a connection that was cut is worth a second one, a wait is not."""
LARGE_BYTES = 100_000
"""Bodies beyond this, and those whose language is to be found out, are read in a thread, so that
the event loop goes on meanwhile."""


async def best_transcript(
    fetcher: GuardedFetcher,
    episode: Mapping[str, Any],
    backoff_s: float,
    limit_s: float | None = None,
) -> TranscriptOutcome:
    """The transcript from the best link that delivers, or else the fault of the best link.

    A transient fault goes before one that lasts; what takes longer than ``limit_s`` seconds is
    transient. ``backoff_s`` is about how long the second try of a link waits.
    """
    links = rank_links(episode["transcripts"], episode["language"])[:MOST_LINKS]
    if not links:
        return TranscriptOutcome(no_transcript(episode, "none", why_none(episode)))
    faults: list[TranscriptOutcome] = []
    found: TranscriptOutcome | None = None
    try:
        async with time_limit(fetcher.clock, limit_s):
            for link in links:
                outcome = await _from_link(fetcher, episode, link, backoff_s)
                if outcome.record["status"] == "ok":
                    found = outcome
                    break
                faults.append(outcome)
    except TimeoutError:
        reason = f"not done with the links within {limit_s:g} s"
        late = no_transcript(episode, "failed", reason, links[len(faults)]["url"])
        faults.append(TranscriptOutcome(late, transient=True))
    tried = [{name: fault.record[name] for name in ("url", "status", "reason")} for fault in faults]
    if found is None:
        transient = [fault for fault in faults if fault.transient]
        # A fault that lasts is found again by each attempt, and says nothing of those that pass.
        found = replace((transient or faults)[0], asked=any(f.asked for f in transient or faults))
    return replace(found, record=found.record | {"tried": tried})


def why_none(episode: Mapping[str, Any]) -> str:
    """Why no link of an episode is tried."""
    listed = len(episode["transcripts"])
    return f"none of {listed} links is in a format we read" if listed else "none is listed"


async def _from_link(
    fetcher: GuardedFetcher, episode: Mapping[str, Any], link: Mapping[str, str], backoff_s: float
) -> TranscriptOutcome:
    retrying = AsyncRetrying(
        stop=stop_after_attempt(QUICK_TRIES),
        wait=wait_random(0.4 * backoff_s, 2 * backoff_s),
        retry=retry_if_exception(_worth_a_second_try),
        sleep=fetcher.clock.sleep,
        reraise=True,
    )
    url, asked = link["url"], False

    async def get() -> Fetched:
        nonlocal asked
        try:
            return await fetcher.get(url, accept=TRANSCRIPT)
        except UnavailableError as error:
            asked = asked or error.asked
            raise

    try:
        found: Fetched = await retrying(get)
    except RefusedError as error:
        return TranscriptOutcome(no_transcript(episode, "refused", str(error), url))
    except UnavailableError as error:
        failed = no_transcript(episode, "failed", str(error), url)
        return TranscriptOutcome(failed, transient=True, until=error.until, asked=asked)
    except FetchError as error:
        return TranscriptOutcome(no_transcript(episode, "failed", str(error), url))
    # What was listed counts: a server that sends a web page for a `.vtt` has none.
    mime = link["type"] if format_of(link["type"], url) else found.content_type
    typed = {"url": url, "type": mime}
    slow = len(found.body) > LARGE_BYTES or not usable_language(episode["language"])
    read = partial(transcript_record, episode, typed, found.body, found.charset)
    return TranscriptOutcome(await asyncio.to_thread(read) if slow else read())


def _worth_a_second_try(error: BaseException) -> bool:
    """Whether the network may just have hiccupped, and nobody asks us to wait."""
    return isinstance(error, UnavailableError) and error.until is None
