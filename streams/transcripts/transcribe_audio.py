"""Transcribes the audio of episodes that list no transcript; off unless `TRANSCRIBE_AUDIO` is on.

Comes in: episodes, on `episode-metadata`. Which of them are transcribed follows from their records
alone: those for which `fetch_transcripts` says `none`. Goes out: on `heard-transcripts`, what was
heard or why nothing was; from there that stage passes it on if the episode is still as it was: it
alone tells of transcripts, and knows what is newer. What does not decode is a dead letter.

The queue is a table owned by the partition: an episode that is edited or withdrawn meanwhile
leaves it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streams.http.fetcher import GuardedFetcher
from streams.http.guard import FetchError, RefusedError, UnavailableError
from streams.http.host_reports import report_hosts
from streams.http.media import AUDIO
from streams.http.retry_queue import RetryQueue
from streams.kafka.message import Message
from streams.runtime.clock import Clock
from streams.runtime.context import Context
from streams.runtime.keyed import EntryKey, records_in_order
from streams.transcripts.asr import (
    AudioError,
    Transcriber,
    Transcription,
    WhisperTranscriber,
    check_length,
)
from streams.transcripts.core.audio_tasks import decode_task, done_with, encode_task, new_task
from streams.transcripts.core.retries import TranscriptOutcome, first_tried_at, next_try
from streams.transcripts.core.transcripts import (
    heard_record,
    no_transcript,
    to_be_heard,
    with_attempt,
)
from streams.transcripts.core.versions import OFFSET_HEADER
from streams.transcripts.downloads import Caps, download, forget
from topology.settings import Settings
from topology.tables import AUDIO_QUEUE
from topology.topics.ingest import EPISODE_METADATA
from topology.topics.transcripts import HEARD_TRANSCRIPTS

log = logging.getLogger(__name__)

EPISODES_AT_ONCE = 256
LOOK_EVERY_S = 5.0
STALE_S = 86_400.0
FIRST_PAUSE_S = 30.0
LONGEST_PAUSE_S = 1800.0
"""Between two tries to load a model: the hub it comes from may be away for long."""


def register(context: Context, transcriber: Transcriber | None = None) -> None:
    """Queue episodes as they come, and transcribe one at a time."""
    report_hosts(context)
    settings = context.settings
    stage = TranscribeAudio(
        context,
        transcriber or WhisperTranscriber(settings.transcribe_model, settings.transcribe_threads),
    )
    context.agent(EPISODE_METADATA, max_batch=EPISODES_AT_ONCE)(stage.handle_episode_metadata)
    context.timer(LOOK_EVERY_S)(stage.work)


class TranscribeAudio:
    """The stage: its handler, which keeps the queue, and its timer, which works on it."""

    def __init__(self, context: Context, transcriber: Transcriber) -> None:
        self._context = context
        self._clock = context.clock
        self._transcriber = TranscriberThread(transcriber, context.clock)
        self._queue = RetryQueue(context, AUDIO_QUEUE)
        self._folder = audio_folder(context.settings)

    async def handle_episode_metadata(self, messages: list[Message]) -> None:
        """Queue what is to be heard. Every record counts: an episode that had links for a while
        was told to have their transcript, and is to be heard anew."""
        for key, offset, episode in await records_in_order(self._context, messages, "episode_id"):
            if episode is None or not to_be_heard(episode):
                self._queue.replace(key, None)
                continue
            url = episode["enclosure_url"]
            if self._queue.get(key) == done_with(url):
                continue
            task = self._task(key, url)
            if task is None:
                task = new_task(episode, offset, self._clock.now())
            self._queue.replace(key, encode_task(task | {"offset": offset}))

    async def work(self) -> None:
        """Work through what is due, those that have waited longest first."""
        _forget_stale(self._folder, self._clock.now())
        while (due := self._queue.pop_due(self._clock.now())) is not None:
            key, value = due
            if not await self._transcriber.ready():
                self._queue.requeue(key)
                return
            if (task := decode_task(value)) is not None:
                await self._transcribe(key, task)

    def _task(self, key: EntryKey, url: str) -> dict[str, Any] | None:
        """The task of an episode, if it is ours, not done with and about this audio."""
        value = self._queue.get(key) if self._queue.owns(key) else None
        task = None if value is None else decode_task(value)
        return task if task is not None and task["url"] == url else None

    async def _transcribe(self, key: EntryKey, task: Mapping[str, Any]) -> None:
        """Transcribe an episode, and tell and keep what came of it if it is still as it was."""
        if self._task(key, task["url"]) is None:
            return  # edited or withdrawn while the model was loaded
        began = first_tried_at(task, self._clock.now())
        outcome = await self._attempt(task)
        current = self._task(key, task["url"])
        if current is None:
            return  # edited or withdrawn meanwhile, or another worker's now
        attempt, due = next_try(
            outcome,
            task["attempt"],
            began,
            self._clock.now(),
            task["episode_id"],
            self._context.settings.fetch_retry_s,
        )
        record = with_attempt(outcome.record, attempt, due)
        headers = {OFFSET_HEADER: str(current["offset"]).encode()}
        await self._context.send(HEARD_TRANSCRIPTS, record, key=key[1], headers=headers)
        await self._context.flush()
        current = self._task(key, task["url"])
        if current is None:
            return
        if due is None:
            self._queue.replace(key, done_with(task["url"]))
        else:
            times = {"due_at": _utc(due), "first_at": _utc(began)}
            self._queue.replace(key, encode_task({**current, **times, "attempt": attempt}))

    async def _attempt(self, task: Mapping[str, Any]) -> TranscriptOutcome:
        """The transcript of a task's audio, or why there is none. Leaves no file behind, except
        for what a later attempt can go on with."""
        url = task["url"]
        path = self._folder / hashlib.sha256(url.encode()).hexdigest()[:32]
        try:
            heard = await self._hear(task, path)
            outcome = TranscriptOutcome(heard_record(task, url, heard.segments, heard.language))
        except UnavailableError as error:
            failed = _failure(task, "failed", str(error))
            return TranscriptOutcome(failed, transient=True, until=error.until, asked=error.asked)
        except (RefusedError, AudioError) as error:
            outcome = TranscriptOutcome(_failure(task, "refused", str(error)))
        except FetchError as error:
            outcome = TranscriptOutcome(_failure(task, "failed", str(error)))
        except Exception as error:
            # Memory, a disk, the model: nothing says that it is this audio's fault, nor that it
            # is not, so that it is tried again, but not for ever, and the others are not stopped.
            log.exception("transcribing %s failed", url)
            reason = f"transcribing failed: {type(error).__name__}: {error}"
            outcome = TranscriptOutcome(_failure(task, "failed", reason), transient=True)
        forget(path)
        return outcome

    async def _hear(self, task: Mapping[str, Any], path: Path) -> Transcription:
        """Download a task's audio to a path, unless it is there, and transcribe it."""
        settings = self._context.settings
        check_length(task["duration_s"] or 0, settings.transcribe_max_s)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            caps = Caps(settings.transcribe_max_bytes, settings.transcribe_timeout_s)
            async with GuardedFetcher.from_settings(settings, self._clock) as fetcher:
                await download(fetcher, task["url"], path, caps, AUDIO)
        return await self._transcriber.hear(path, task["language"], settings.transcribe_max_s)


class TranscriberThread:
    """A transcriber in a thread of its own: it takes hours, and who shares a pool would wait."""

    def __init__(self, transcriber: Transcriber, clock: Clock) -> None:
        self._transcriber = transcriber
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="transcribe")
        self._loaded = False
        self._pause_s = FIRST_PAUSE_S
        self._load_at = 0.0
        """When to try again to load the model, by the clock's monotonic time."""

    async def ready(self) -> bool:
        """Whether the model is loaded; it is tried with growing pauses. Whatever is wrong then is
        not wrong with the audio that waits."""
        if self._loaded or self._clock.monotonic() < self._load_at:
            return self._loaded
        try:
            await self._run(self._transcriber.load)
        except Exception as error:
            log.error(
                "the transcriber cannot be loaded (%s: %s); episodes wait in the queue, next try "
                "in %.0f seconds",
                type(error).__name__,
                error,
                self._pause_s,
            )
            self._load_at = self._clock.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            return False
        self._loaded = True
        return True

    async def hear(self, path: Path, language: str, max_s: float) -> Transcription:
        """As `Transcriber.transcribe`."""
        heard: Transcription = await self._run(self._transcriber.transcribe, path, language, max_s)
        return heard

    async def _run(self, call: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)


def audio_folder(settings: Settings) -> Path:
    """Where audio lies while it is worked on."""
    return settings.podstream_home / "sound"


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _failure(task: Mapping[str, Any], status: str, reason: str) -> dict[str, Any]:
    """The `transcript` record that says why there is none, and that its audio was tried."""
    record = no_transcript(task, status, reason, task["url"])
    return record | {"tried": [{name: record[name] for name in ("url", "status", "reason")}]}


def _forget_stale(folder: Path, now: float) -> None:
    """Delete what a worker left behind that was killed and whose episode nobody asks for."""
    for file in folder.glob("*") if folder.exists() else ():
        if now - file.stat().st_mtime > STALE_S:
            file.unlink(missing_ok=True)
