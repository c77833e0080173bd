"""Fetches and parses the best transcript of each episode into `episode-transcripts`.

What is not available now, or takes long, is not waited for: the episode waits in a table whose
topic is the retry topic, one record for each episode that waits, and a timer goes on with it.

Whatever is known of an episode's transcript is told here and nowhere else, what was heard in its
audio as well: so that an edit, a withdrawal, a retry and a result of the transcriber cannot
overtake each other. Which of two is newer is said by the offsets of `episode-metadata`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from streams.http.fair_queue import FairQueue
from streams.http.fetcher import GuardedFetcher
from streams.http.newest import EntryKey, in_order
from streams.http.rate_limits import host_of, report_hosts
from streams.http.retries import (
    TranscriptOutcome,
    decode_retry,
    encode_retry,
    first_at,
    next_try,
    retry_record,
)
from streams.http.retry_queue import RetryQueue, keep
from streams.ingest.core.episodes import IMPORT
from streams.kafka.message import Message
from streams.runtime.context import Context, decode_all
from streams.state.protocols import StateTable
from streams.transcripts.core.transcripts import (
    no_transcript,
    rank_links,
    to_be_heard,
    with_attempt,
)
from streams.transcripts.core.versions import (
    OFFSET_HEADER,
    Version,
    digest_of,
    digest_of_audio,
    digest_of_links,
)
from streams.transcripts.transcript_links import best_transcript, why_none

EPISODES_AT_ONCE = 32
FIRST_TRIES_S = 30.0
"""How long a batch of new episodes is worked at before the rest of it is left to the timer: longer
than a slow answer (FETCH_TIMEOUT_S), and far below the 1,000 seconds after which the broker takes
a worker that handles one batch for dead."""
RETRIES_AT_ONCE = 32
RETRIES_OF_A_HOST = 4
"""Of these: the others' turns do not wait for a host that is slow."""
RETRY_TIMEOUTS = 6
"""Longest attempt of the timer at an episode, in times of FETCH_TIMEOUT_S: three links that answer
as slowly as they may, each with its second try."""
RETRY_EVERY_S = 5.0
LOOKED_AT = 1000
"""What is taken from the table in one go: its hosts are found out on the event loop."""


@dataclass(frozen=True)
class Try:
    """An episode, or an earlier try of it, and what is known before it is tried.

    ``version`` is what the episodes' log says, ``waited`` the entry of the table it comes from.
    """

    place: EntryKey
    episode: Mapping[str, Any]
    first_at: float
    attempt: int = 0
    version: Version | None = None
    waited: bytes | None = None


@dataclass(frozen=True)
class Result:
    """What is to be told and kept of a try: ``record`` is None for a withdrawal, ``wait`` the
    entry of the table, None if there is nothing left to try."""

    of: Try
    record: Mapping[str, Any] | None
    wait: bytes | None = None
    tell: bool = True


def register(context: Context) -> None:
    """Fetch for each new or changed episode; imported ones bring their transcripts along."""
    report_hosts(context)
    stage = TranscriptFetching(context)
    context.agent("episode-metadata", max_batch=EPISODES_AT_ONCE)(stage.handle_episode_metadata)
    context.agent("heard-transcripts", max_batch=8)(stage.handle_heard_transcripts)
    context.timer(RETRY_EVERY_S)(stage.retry)


class TranscriptFetching:
    """The stage: its handlers of episodes and of what was heard, and its timer for retries.

    They fetch side by side, but settle what they got one after the other.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting = RetryQueue(context, "transcript_retries")
        self._versions: StateTable = context.table("transcript_versions")
        self._intervals_s = context.settings.fetch_retry_s
        self._backoff_s = context.settings.fetch_backoff_s
        self._limit_s = RETRY_TIMEOUTS * context.settings.fetch_timeout_s
        self._heard = context.settings.transcribe_audio
        self._in_hand: set[EntryKey] = set()
        """Episodes whose new links are being fetched: a retry of their old ones is out of date."""
        self._settling = asyncio.Lock()

    async def handle_episode_metadata(self, messages: list[Message]) -> None:
        """Fetch for what is new in a batch: of each episode, its newest record counts."""
        wanted, results = await self._plan(messages)
        self._in_hand = {new.place for new in wanted} | {result.of.place for result in results}
        try:
            await self._settle(results)
            await self._first_tries(wanted)
        finally:
            self._in_hand = set()

    async def _plan(self, messages: list[Message]) -> tuple[list[Try], list[Result]]:
        """The episodes to fetch for, and what there is to say of others without that."""
        found = await in_order(self._context, messages, "episode_id")
        wanted: list[Try] = []
        results: list[Result] = []
        newest = {place: (offset, episode) for place, offset, episode in found}
        for place, (offset, episode) in newest.items():
            if episode is not None and episode["source"] == IMPORT:
                continue
            version = Version(offset, digest_of(episode))
            known = self._known(place)
            if known is not None and known.offset > version.offset:
                continue  # it has come before, and so has something newer
            new = Try(place, episode or {}, time.time(), version=version)
            if version.digest == (known.digest if known else self._digest_waiting(place)):
                keep(self._versions, place, version.encode())
            elif episode is None:
                results.append(Result(new, None))
            elif to_be_heard(episode):
                reason = why_none(episode)
                reason += "; the audio is to be transcribed" if self._heard else ""
                outcome = TranscriptOutcome(no_transcript(episode, "none", reason))
                results.append(self._result(new, outcome))
            else:
                wanted.append(new)
        return wanted, results

    async def _first_tries(self, wanted: Iterable[Try]) -> None:
        """Fetch and tell, each as soon as it is there; what takes long is left to the timer."""
        ends_at = time.monotonic() + FIRST_TRIES_S
        async with GuardedFetcher.from_settings(self._context.settings) as fetcher:
            running = {
                asyncio.create_task(best_transcript(fetcher, new.episode, self._backoff_s)): new
                for new in wanted
            }
            try:
                while running:
                    left_s = max(ends_at - time.monotonic(), 0.0)
                    done = await _next_done(running, left_s)
                    if not done:
                        break
                    await self._settle([self._result(running.pop(t), t.result()) for t in done])
            finally:
                await _cancel(running)
        now, late = time.time(), running.values()
        waits = [encode_retry(retry_record(new.episode, 0, now, new.first_at)) for new in late]
        await self._settle(
            [Result(new, None, wait, tell=False) for new, wait in zip(late, waits, strict=True)]
        )

    async def handle_heard_transcripts(self, messages: list[Message]) -> None:
        """Pass on what was heard in the audio of episodes, where that is still what counts."""
        results = []
        for message, record in await decode_all(self._context, messages):
            place = message.partition, record["episode_id"].encode()
            header = message.header(OFFSET_HEADER) or b""
            offset = int(header) if header.isdigit() else -1
            version = Version(offset, digest_of_audio(record["url"]))
            results.append(Result(Try(place, record, 0.0, version=version), record))
        await self._settle(results)

    async def retry(self) -> None:
        """Try again what is due, as long as something is; hosts take turns."""
        queue: FairQueue[tuple[EntryKey, bytes]] = FairQueue(RETRIES_AT_ONCE, RETRIES_OF_A_HOST)
        running: dict[asyncio.Task[TranscriptOutcome], tuple[str, Try]] = {}
        async with GuardedFetcher.from_settings(self._context.settings) as fetcher:
            try:
                while self._begin_retries(fetcher, queue, running):
                    results = []
                    for task in await _next_done(running, RETRY_EVERY_S):
                        host, again = running.pop(task)
                        queue.end(host)
                        results.append(self._result(again, task.result()))
                    await self._settle(results)
            finally:
                await _cancel(running)

    def _begin_retries(
        self,
        fetcher: GuardedFetcher,
        queue: FairQueue[tuple[EntryKey, bytes]],
        running: dict[asyncio.Task[TranscriptOutcome], tuple[str, Try]],
    ) -> bool:
        """Begin with what is due and whose turn it is; whether anything is under way."""
        now = time.time()
        for _ in range(LOOKED_AT):
            if (taken := self._waiting.take(now)) is None:
                break
            queue.add(_best_host(decode_retry(taken[1])), taken)
        while (begun := queue.begin()) is not None:
            host, (place, value) = begun
            # After a rebalance, what is under way is due once more.
            begun_before = any((r.place, r.waited) == (place, value) for _, r in running.values())
            if begun_before or not self._waiting.still(place, value):
                queue.end(host)
                continue
            waiting = decode_retry(value)
            began = first_at(waiting, now)
            again = Try(place, waiting, began, waiting["attempt"], waited=value)
            fetching = best_transcript(fetcher, waiting, self._backoff_s, self._limit_s)
            running[asyncio.create_task(fetching)] = host, again
        return bool(running)

    def _known(self, place: EntryKey) -> Version | None:
        value = self._versions.get(*place)
        return None if value is None else Version.decode(value)

    def _digest_waiting(self, place: EntryKey) -> bytes | None:
        """The digest of the links that wait to be tried again."""
        value = self._waiting.get(place)
        return None if value is None else digest_of_links(decode_retry(value)["transcripts"])

    def _result(self, of: Try, outcome: TranscriptOutcome) -> Result:
        """What an outcome leads to: it is told, and tried again if that may help."""
        now, episode_id = time.time(), of.episode["episode_id"]
        attempt, due = next_try(
            outcome, of.attempt, of.first_at, now, episode_id, self._intervals_s
        )
        record = with_attempt(outcome.record, attempt, due)
        if due is None:
            return Result(of, record)
        return Result(of, record, encode_retry(retry_record(of.episode, attempt, due, of.first_at)))

    async def _settle(self, results: Collection[Result]) -> None:
        """Tell the results that are not out of date, and only then remember that they were told."""
        if not results:
            return
        async with self._settling:
            current = [result for result in results if self._is_current(result.of)]
            for result in current:
                if result.tell:
                    key = result.of.place[1]
                    record = None if result.record is None else dict(result.record)
                    await self._context.send("episode-transcripts", record, key=key)
            # Tables that are ahead of the topic would hide what was not told before a kill, and a
            # version that is ahead of the retries would hide what waits.
            await self._context.flush()
            for result in current:
                self._waiting.keep(result.of.place, result.wait)
            await self._context.flush()
            for result in current:
                place, version = result.of.place, result.of.version
                if version is not None:
                    known = self._known(place)
                    offset = max(version.offset, known.offset if known else -1)
                    keep(self._versions, place, Version(offset, version.digest).encode())

    def _is_current(self, of: Try) -> bool:
        """Whether nothing newer is known of the episode than what a try was begun with."""
        if of.waited is not None:
            return of.place not in self._in_hand and self._waiting.still(of.place, of.waited)
        known, version = self._known(of.place), of.version
        if known is None or version is None:
            return True
        return version.offset >= known.offset or version.digest == known.digest


def _best_host(episode: Mapping[str, Any]) -> str:
    """The host of the best link."""
    links = rank_links(episode["transcripts"], episode["language"])
    return host_of(links[0]["url"]) if links else ""


async def _next_done(
    running: Mapping[asyncio.Task[TranscriptOutcome], Any], timeout_s: float
) -> set[asyncio.Task[TranscriptOutcome]]:
    """Those that are done, as soon as one is; none after the timeout."""
    done, _ = await asyncio.wait(running, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    return done


async def _cancel(running: Iterable[asyncio.Task[TranscriptOutcome]]) -> None:
    """End what is under way, its requests included."""
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
