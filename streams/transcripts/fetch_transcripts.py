"""Fetches and parses the best transcript of each episode into `episode-transcripts`.

Comes in: episodes, on `episode-metadata`, and what `transcribe_audio` heard in the audio of some,
on `heard-transcripts`. Goes out: one record for each episode and version of it, with the
transcript or the reason why there is none. What does not decode is a dead letter. What is not
available now, or takes long, is not waited for: the episode waits in a table whose topic is the
retry topic, one record for each episode that waits, and a timer goes on with it.

Whatever is known of an episode's transcript is told here and nowhere else, what was heard in its
audio as well: so that an edit, a withdrawal, a retry and a result of the transcriber cannot
overtake each other. Which of two is newer is said by the offsets of `episode-metadata`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from streams.http.fair_queue import FairQueue
from streams.http.fetcher import GuardedFetcher
from streams.http.host_reports import report_hosts
from streams.http.rate_limits import host_of
from streams.http.retry_queue import RetryQueue
from streams.http.time_limits import first_done
from streams.ingest.core.episodes import IMPORT
from streams.kafka.message import Message
from streams.runtime.context import Context, decode_all
from streams.runtime.keyed import EntryKey, KeyedRecord, newest_records, set_entry
from streams.transcripts.core.retries import (
    TranscriptOutcome,
    decode_retry,
    encode_retry,
    first_tried_at,
    next_try,
    retry_record,
)
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
from topology.tables import TRANSCRIPT_RETRIES, TRANSCRIPT_VERSIONS
from topology.topics.ingest import EPISODE_METADATA
from topology.topics.transcripts import EPISODE_TRANSCRIPTS, HEARD_TRANSCRIPTS

EPISODES_AT_ONCE = 32
HEARD_AT_ONCE = 8
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


def register(context: Context) -> None:
    """Fetch for each new or changed episode; imported ones bring their transcripts along."""
    report_hosts(context)
    stage = FetchTranscripts(context)
    context.agent(EPISODE_METADATA, max_batch=EPISODES_AT_ONCE)(stage.handle_episode_metadata)
    context.agent(HEARD_TRANSCRIPTS, max_batch=HEARD_AT_ONCE)(stage.handle_heard_transcripts)
    context.timer(RETRY_EVERY_S)(stage.retry)


@dataclass(frozen=True)
class Attempt:
    """An episode, or an earlier attempt at it, and what is known before this one is made.

    ``first_at`` is when the first one was made, in Unix seconds, ``number`` how many there were.
    ``version`` is what the episodes' log says, ``waited`` the entry of the retry queue it comes
    from: one of the two is None.
    """

    key: EntryKey
    episode: Mapping[str, Any]
    first_at: float
    number: int = 0
    version: Version | None = None
    waited: bytes | None = None


@dataclass(frozen=True)
class Result:
    """What is to be told and kept of an attempt.

    ``record`` is None for a withdrawal, ``entry`` what waits in the retry queue, None if there is
    nothing left to try. Without ``tell`` nothing is sent.
    """

    attempt: Attempt
    record: Mapping[str, Any] | None
    entry: bytes | None = None
    tell: bool = True


Retries = dict[asyncio.Task[TranscriptOutcome], tuple[str, Attempt]]
"""The retries under way, with their hosts."""


class FetchTranscripts:
    """The stage: its handlers of episodes and of what was heard, and its timer for retries.

    They fetch side by side, but settle what they got one after the other.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock = context.clock
        self._queue = RetryQueue(context, TRANSCRIPT_RETRIES)
        self._versions = context.table(TRANSCRIPT_VERSIONS)
        self._intervals_s = context.settings.fetch_retry_s
        self._backoff_s = context.settings.fetch_backoff_s
        self._limit_s = RETRY_TIMEOUTS * context.settings.fetch_timeout_s
        self._in_hand: set[EntryKey] = set()
        """Episodes whose new links are being fetched: a retry of their old ones is out of date."""
        self._settling = asyncio.Lock()

    async def handle_episode_metadata(self, messages: list[Message]) -> None:
        """Fetch for what is new in a batch: of each episode, its newest record counts."""
        wanted: list[Attempt] = []
        results: list[Result] = []
        told: list[KeyedRecord] = []
        for found in (await newest_records(self._context, messages, "episode_id")).values():
            planned = self._plan(found)
            if isinstance(planned, Attempt):
                wanted.append(planned)
            elif planned is not None:
                results.append(planned)
            else:
                told.append(found)
        await self._readdress(told)
        self._in_hand = {new.key for new in wanted} | {result.attempt.key for result in results}
        try:
            await self._settle(results)
            await self._first_tries(wanted)
        finally:
            self._in_hand = set()

    async def handle_heard_transcripts(self, messages: list[Message]) -> None:
        """Pass on what was heard in the audio of episodes, where that is still what counts."""
        results = []
        for message, record in await decode_all(self._context, messages):
            key = message.partition, record["episode_id"].encode()
            header = message.header(OFFSET_HEADER) or b""
            offset = int(header) if header.isdigit() else -1
            version = Version(offset, digest_of_audio(record["url"]))
            results.append(Result(Attempt(key, record, 0.0, version=version), record))
        await self._settle(results)

    async def retry(self) -> None:
        """Try again what is due, as long as something is; hosts take turns."""
        queue: FairQueue[tuple[EntryKey, bytes]] = FairQueue(RETRIES_AT_ONCE, RETRIES_OF_A_HOST)
        running: Retries = {}
        async with self._fetcher() as fetcher:
            try:
                while self._begin_retries(fetcher, queue, running):
                    results = []
                    for task in await first_done(self._clock, running, RETRY_EVERY_S):
                        host, again = running.pop(task)
                        queue.end(host)
                        results.append(self._result(again, task.result()))
                    await self._settle(results)
            finally:
                await _cancel(running)

    def _plan(self, found: KeyedRecord) -> Attempt | Result | None:
        """What to fetch for an episode, what there is to say without that, or nothing of both."""
        key, offset, episode = found
        if episode is not None and episode["source"] == IMPORT:
            return None
        version, known = Version(offset, digest_of(episode)), self._known(key)
        if known is not None and known.offset > offset:
            return None  # it has come before, and so has something newer
        if version.digest == (known.digest if known else self._digest_waiting(key)):
            set_entry(self._versions, key, version.encode())
            return None
        new = Attempt(key, episode or {}, self._clock.now(), version=version)
        if episode is None:
            return Result(new, None)
        if not to_be_heard(episode):
            return new
        heard = self._context.settings.transcribe_audio
        reason = why_none(episode) + ("; the audio is to be transcribed" if heard else "")
        return self._result(new, TranscriptOutcome(no_transcript(episode, "none", reason)))

    async def _readdress(self, told: Iterable[KeyedRecord]) -> None:
        """Let what waits be tried at the newest addresses of its links: what expires in them makes
        no version of its own, and those of the first try are no longer answered after hours."""
        async with self._settling:
            for key, offset, episode in told:
                value, known = self._queue.get(key), self._known(key)
                if (
                    episode is None
                    or value is None
                    or (known is not None and known.offset > offset)
                ):
                    continue
                retry, links = decode_retry(value), episode["transcripts"]
                fresh = encode_retry({**retry, "transcripts": links})
                if fresh != value and digest_of_links(links) == digest_of_links(
                    retry["transcripts"]
                ):
                    self._queue.replace(key, fresh)

    async def _first_tries(self, wanted: Iterable[Attempt]) -> None:
        """Fetch and tell, each as soon as it is there; what takes long is left to the timer."""
        ends_at = self._clock.monotonic() + FIRST_TRIES_S
        async with self._fetcher() as fetcher:
            running = {
                asyncio.create_task(best_transcript(fetcher, new.episode, self._backoff_s)): new
                for new in wanted
            }
            try:
                while running:
                    left_s = max(ends_at - self._clock.monotonic(), 0.0)
                    done = await first_done(self._clock, running, left_s)
                    if not done:
                        break
                    await self._settle([self._result(running.pop(t), t.result()) for t in done])
            finally:
                await _cancel(running)
        now = self._clock.now()
        late = [(new, retry_record(new.episode, 0, now, new.first_at)) for new in running.values()]
        await self._settle(
            [Result(new, None, encode_retry(retry), tell=False) for new, retry in late]
        )

    def _begin_retries(
        self, fetcher: GuardedFetcher, queue: FairQueue[tuple[EntryKey, bytes]], running: Retries
    ) -> bool:
        """Begin with what is due and whose turn it is; whether anything is under way."""
        now = self._clock.now()
        for _ in range(LOOKED_AT):
            if (due := self._queue.pop_due(now)) is None:
                break
            queue.add(_best_host(decode_retry(due[1])), due)
        while (begun := queue.begin()) is not None:
            host, (key, value) = begun
            # After a rebalance, what is under way is due once more.
            begun_before = any((r.key, r.waited) == (key, value) for _, r in running.values())
            if begun_before or not self._queue.is_current(key, value):
                queue.end(host)
                continue
            retry = decode_retry(value)
            began = first_tried_at(retry, now)
            again = Attempt(key, retry, began, retry["attempt"], waited=value)
            fetching = best_transcript(fetcher, retry, self._backoff_s, self._limit_s)
            running[asyncio.create_task(fetching)] = host, again
        return bool(running)

    def _fetcher(self) -> GuardedFetcher:
        return GuardedFetcher.from_settings(self._context.settings, self._clock)

    def _known(self, key: EntryKey) -> Version | None:
        value = self._versions.get(*key)
        return None if value is None else Version.decode(value)

    def _digest_waiting(self, key: EntryKey) -> bytes | None:
        """The digest of the links that wait to be tried again."""
        value = self._queue.get(key)
        return None if value is None else digest_of_links(decode_retry(value)["transcripts"])

    def _result(self, attempt: Attempt, outcome: TranscriptOutcome) -> Result:
        """What an outcome leads to: it is told, and tried again if that may help."""
        now, episode, first_at = self._clock.now(), attempt.episode, attempt.first_at
        number, due = next_try(
            outcome, attempt.number, first_at, now, episode["episode_id"], self._intervals_s
        )
        record = with_attempt(outcome.record, number, due)
        if due is None:
            return Result(attempt, record)
        return Result(attempt, record, encode_retry(retry_record(episode, number, due, first_at)))

    async def _settle(self, results: Collection[Result]) -> None:
        """Tell the results that are not out of date, and only then remember that they were told."""
        if not results:
            return
        async with self._settling:
            current = [result for result in results if self._is_current(result.attempt)]
            for result in current:
                if result.tell:
                    key = result.attempt.key[1]
                    record = None if result.record is None else dict(result.record)
                    await self._context.send(EPISODE_TRANSCRIPTS, record, key=key)
            # Tables that are ahead of the topic would hide what was not told before a kill, and a
            # version that is ahead of the retries would hide what waits.
            await self._context.flush()
            for result in current:
                # A retry may have lost its partition meanwhile, and even have it back.
                if self._queue.is_current(result.attempt.key, result.attempt.waited):
                    self._queue.replace(result.attempt.key, result.entry)
            await self._context.flush()
            for result in current:
                self._remember(result.attempt)

    def _remember(self, attempt: Attempt) -> None:
        """Keep for which version of an episode was told what there is; its offset never falls."""
        if (version := attempt.version) is None:
            return
        known = self._known(attempt.key)
        offset = max(version.offset, known.offset if known else -1)
        set_entry(self._versions, attempt.key, Version(offset, version.digest).encode())

    def _is_current(self, attempt: Attempt) -> bool:
        """Whether nothing newer is known of the episode than what an attempt was begun with."""
        key, waited = attempt.key, attempt.waited
        if waited is not None:
            return key not in self._in_hand and self._queue.is_current(key, waited)
        known, version = self._known(key), attempt.version
        if known is None or version is None:
            return True
        return version.offset >= known.offset or version.digest == known.digest


def _best_host(episode: Mapping[str, Any]) -> str:
    """The host of the best link."""
    links = rank_links(episode["transcripts"], episode["language"])
    return host_of(links[0]["url"]) if links else ""


async def _cancel(running: Iterable[asyncio.Task[TranscriptOutcome]]) -> None:
    """End what is under way, its requests included."""
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
