"""Transcribes the sound of episodes that list no transcript; off unless `TRANSCRIBE_AUDIO` is on.

Which episodes these are follows from their records alone: the ones for which `fetch_transcripts`
would say `none`. It leaves them to this stage, so that one stage writes what is known of a
version of an episode, and a repeat of its record does not undo what was heard. The queue is a
table owned by the partition: an episode that is edited or withdrawn meanwhile leaves it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from streams.asr import (
    MissingExtraError,
    SoundError,
    Transcriber,
    WhisperTranscriber,
    check_length,
)
from streams.context import Context, Message, StateTable
from streams.core.media import AUDIO
from streams.core.retries import Outcome, decode_waiting, due_after, due_entries, encode_waiting
from streams.core.transcripts import (
    heard_record,
    no_transcript,
    to_be_heard,
    with_attempt,
)
from streams.downloads import Caps, download, forget
from streams.fetcher import FetchError, GuardedFetcher, RefusedError, UnavailableError
from streams.newest import Place, newest_records
from streams.politeness import report_hosts
from streams.waiting import keep, still
from topology.settings import Settings

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
STALE_S = 86_400.0
_TASK = "audio_task"


def register(context: Context, transcriber: Transcriber | None = None) -> None:
    """Queue episodes as they come, and transcribe one at a time."""
    report_hosts(context)
    settings = context.settings
    try:
        transcriber = transcriber or WhisperTranscriber(
            settings.transcribe_model, settings.transcribe_threads
        )
    except MissingExtraError as error:
        log.error("%s; until then episodes wait in the queue", error)
    stage = AudioTranscribing(context, transcriber)
    context.agent("episode-metadata", max_batch=256)(stage.queue)
    if transcriber is not None:
        context.timer(LOOK_EVERY_S)(stage.work)


class AudioTranscribing:
    """The stage: its handler, which keeps the queue, and its timer, which works on it."""

    def __init__(self, context: Context, transcriber: Transcriber | None) -> None:
        self._context = context
        self._transcriber = transcriber
        self._queue: StateTable = context.table("audio_queue")
        self._folder = sound_folder(context.settings)

    async def queue(self, messages: list[Message]) -> None:
        newest = await newest_records(self._context, messages, "episode_id")
        fresh: dict[Place, dict[str, Any]] = {}
        for place, episode in newest.items():
            value = self._queue.get(*place)
            if episode is None or not to_be_heard(episode):
                keep(self._queue, place, None)
                continue
            if value is None or _task(value)["url"] != episode["enclosure_url"]:
                fresh[place] = episode
                reason = "none is listed; the sound is to be transcribed"
                record = with_attempt(no_transcript(episode, "none", reason), 0, None)
                await self._context.send("episode-transcripts", record, key=place[1])
        # A queue that is ahead of the topic would hide what was not told before a kill.
        await self._context.delivered()
        for place, episode in fresh.items():
            self._queue.put(*place, encode_waiting(_TASK, new_task(episode, time.time())))

    async def work(self) -> None:
        """Work through what is due, those that have waited longest first."""
        _forget_stale(self._folder)
        for partition in sorted(self._queue.partitions()):
            for key, value in due_entries(self._queue.items(partition), time.time(), 100):
                if still(self._queue, (partition, key), value):
                    await self._transcribe((partition, key), value)

    async def _transcribe(self, place: Place, value: bytes) -> None:
        task = _task(value)
        result = await self._hear(task)
        if not still(self._queue, place, value):
            return  # edited or withdrawn meanwhile, or another worker's now
        attempt, due = task["attempt"] + 1, None
        if result.passing:
            intervals_s = self._context.settings.fetch_retry_s
            due = due_after(attempt, time.time(), task["episode_id"], intervals_s, result.until)
        record = with_attempt(result.record, attempt, due)
        await self._context.send("episode-transcripts", record, key=place[1])
        await self._context.delivered()
        if still(self._queue, place, value):
            due_at = None if due is None else datetime.fromtimestamp(due, UTC)
            done = task | {"attempt": attempt, "due_at": due_at}
            self._queue.put(*place, encode_waiting(_TASK, done))

    async def _hear(self, task: Mapping[str, Any]) -> Outcome:
        """The transcript of a task's sound, or why there is none. Leaves no file behind, except
        for what a later attempt can go on with."""
        settings, url = self._context.settings, task["url"]
        path = self._folder / hashlib.sha256(url.encode()).hexdigest()[:32]
        caps = Caps(settings.transcribe_max_bytes, settings.transcribe_timeout_s)
        try:
            check_length(task["duration_s"] or 0, settings.transcribe_max_s)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                async with GuardedFetcher.from_settings(settings) as fetcher:
                    await download(fetcher, url, path, caps, AUDIO)
            assert self._transcriber is not None  # noqa: S101 - the timer runs with one only
            heard = await asyncio.to_thread(
                self._transcriber.transcribe, path, task["language"], settings.transcribe_max_s
            )
            result = Outcome(heard_record(task, url, heard.segments, heard.language))
        except UnavailableError as error:
            failed = no_transcript(task, "failed", str(error), url)
            return Outcome(_tried(failed), passing=True, until=error.until)
        except (RefusedError, SoundError) as error:
            result = Outcome(_tried(no_transcript(task, "refused", str(error), url)))
        except FetchError as error:
            result = Outcome(_tried(no_transcript(task, "failed", str(error), url)))
        except Exception as error:
            # Neither the model's code nor the sound is ours: one file must not stop the others.
            log.exception("transcribing %s failed", url)
            reason = f"transcribing failed: {type(error).__name__}: {error}"
            result = Outcome(_tried(no_transcript(task, "failed", reason, url)))
        forget(path)
        return result


def new_task(episode: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The `audio_task` of an episode, due at once."""
    return {
        "episode_id": episode["episode_id"],
        "url": episode["enclosure_url"],
        "language": episode.get("language") or "",
        "duration_s": episode.get("duration_s"),
        "attempt": 0,
        "due_at": datetime.fromtimestamp(now, UTC),
    }


def sound_folder(settings: Settings) -> Path:
    """Where sound lies while it is worked on."""
    return settings.podstream_home / "sound"


def _task(value: bytes) -> dict[str, Any]:
    return decode_waiting(_TASK, value)


def _tried(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"tried": [{name: record[name] for name in ("url", "status", "reason")}]}


def _forget_stale(folder: Path) -> None:
    """Delete what a worker left behind that was killed and whose episode nobody asks for."""
    for file in folder.glob("*") if folder.exists() else ():
        if time.time() - file.stat().st_mtime > STALE_S:
            file.unlink(missing_ok=True)
