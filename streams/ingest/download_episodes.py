"""Gets the full record of each announced episode and passes it on to `episode-candidates`.

Comes in: refs, on `episode-ids`. A ref that carries its record, or says that the episode is
withdrawn, needs no fetching. Goes out: candidates. Which episodes are there, and under which
identity, is kept: an episode is fetched once, again if it was edited or comes back, and stays the
episode it is when its publisher moves its audio.

What its source cannot give now waits in a table whose topic is the retry topic, and is asked for
again with growing waits; after the last try the ref goes to the dead-letter topic, as do refs and
records that cannot be read. What is said of an episode later, an edit or a withdrawal, supersedes
what waits. When many are to be fetched, most of them wait there from the start: a slow source
delays no record that is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from itertools import islice
from typing import Any

from schemas.codec import BadRecordError, RecordCodec
from streams.http.host_reports import report_hosts
from streams.http.retries import decode_entry, due_after, encode_entry
from streams.http.retry_queue import RetryQueue
from streams.ingest.core.identity import identity_of
from streams.ingest.sources.base import Episode, SourceError, UnavailableSourceError
from streams.ingest.sources.configured import configured_sources
from streams.kafka.message import Message
from streams.runtime.context import Context, decode_all
from streams.runtime.keyed import EntryKey, set_entry
from topology.tables import DOWNLOAD_RETRIES, DOWNLOADS
from topology.topics.ingest import EPISODE_CANDIDATES, EPISODE_IDS, EPISODE_METADATA

REFS_TAKEN = 500
REFS_AT_ONCE = 20
"""Episodes that a handler or a retry fetches before it goes on."""
RETRY_EVERY_S = 5.0
EDIT = "edit"
"""`found_by` of an episode that is known and has changed."""

FetchedEpisodes = Mapping[tuple[str, str], Episode | SourceError]
"""By source and episode_id: the record, or why there is none."""

_SCHEMA = "download_retry"


def register(context: Context) -> None:
    """Take refs as they come, and later those that wait for their source."""
    report_hosts(context)
    stage = DownloadEpisodes(context)
    context.agent(EPISODE_IDS, max_batch=REFS_TAKEN)(stage.handle_episode_ids)
    context.timer(RETRY_EVERY_S)(stage.retry)


class Step(Enum):
    """What a ref asks for."""

    FETCH = "fetch"
    TAKE = "take the record that it carries"
    WITHDRAW = "withdraw"


@dataclass(frozen=True)
class DownloadTask:
    """A ref and what it asks for.

    ``waited`` is the entry of the retry queue that it comes from, None for a new one; ``attempt``
    how often its source was asked before.
    """

    step: Step
    message: Message
    ref: dict[str, Any]
    attempt: int = 0
    waited: bytes | None = None

    @property
    def key(self) -> EntryKey:
        """Where the tables keep what is known of the episode."""
        return self.message.partition, self.ref["episode_id"].encode()


@dataclass(frozen=True)
class RetryEntry:
    """What is to wait in the retry queue, because an episode is to be tried again."""

    value: bytes


@dataclass(frozen=True)
class KnownEpisode:
    """Whether an episode is there, and its identity, which is empty if it never was."""

    is_there: bool
    identity: str

    def encode(self) -> bytes:
        """The value of the table `downloads`: `+` or `-` (withdrawn) and the identity."""
        return (b"+" if self.is_there else b"-") + self.identity.encode()

    @classmethod
    def decode(cls, value: bytes | None) -> KnownEpisode:
        """What `encode` gave, or what None says: that the episode never was there."""
        value = value or b"-"
        return cls(value.startswith(b"+"), value[1:].decode())


@dataclass(frozen=True)
class _Settled:
    """What a group of tasks leads to: candidates with identity and framed record, in order, and
    what is known and waits afterwards, by the key of the episode."""

    candidates: list[tuple[DownloadTask, str, bytes | None]] = field(default_factory=list)
    new_identities: dict[EntryKey, str] = field(default_factory=dict)
    known: dict[EntryKey, KnownEpisode] = field(default_factory=dict)
    waits: dict[EntryKey, bytes | None] = field(default_factory=dict)


class DownloadEpisodes:
    """The stage: its handler of refs and its timer for retries, which run side by side.

    Both fetch at the same time, but settle what they got one after the other: what waits is only
    replaced there, so that a retry which finds its entry as it was is the latest word on its
    episode.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock = context.clock
        self._intervals_s = context.settings.fetch_retry_s
        self._first, self._again = EpisodeFetcher(context), EpisodeFetcher(context)
        self._codec = RecordCodec(EPISODE_METADATA.name, "episode", context.registry)
        self._known_episodes = context.table(DOWNLOADS)
        self._queue = RetryQueue(context, DOWNLOAD_RETRIES)
        self._settling = asyncio.Lock()

    async def handle_episode_ids(self, messages: list[Message]) -> None:
        """Do what the refs ask for, those of each episode in their order.

        What needs no fetching goes first, then a few are fetched; the others wait for `retry`.
        """
        tasks = self._plan(await decode_all(self._context, messages))
        fetching = [task for task in tasks if task.step is Step.FETCH]
        few = set(list(dict.fromkeys(task.key for task in fetching))[:REFS_AT_ONCE])
        await self._settle([task for task in tasks if task.key not in few], {})
        fetched = await self._first.fetch([task.ref for task in fetching if task.key in few])
        await self._settle([task for task in tasks if task.key in few], fetched)

    async def retry(self) -> None:
        """Ask again for what is due, a few episodes at a time."""
        # What fails anew is due later than this, so that there is an end to it.
        due = iter(partial(self._queue.pop_due, self._clock.now()), None)
        while some := list(islice(due, REFS_AT_ONCE)):
            tasks = [self._task_of_entry(partition, value) for (partition, _), value in some]
            await self._settle(tasks, await self._again.fetch([task.ref for task in tasks]))

    def _plan(self, refs: Sequence[tuple[Message, dict[str, Any]]]) -> list[DownloadTask]:
        """What to do for each ref; those of episodes that are there ask for nothing, nor do those
        of episodes that wait, unless they tell of something newer."""
        tasks: list[DownloadTask] = []
        withdrawn: set[EntryKey] = set()
        for message, ref in refs:
            key = (message.partition, ref["episode_id"].encode())
            if ref["withdrawn"]:
                tasks.append(DownloadTask(Step.WITHDRAW, message, ref))
                withdrawn.add(key)
            elif ref["record"] is not None:
                tasks.append(DownloadTask(Step.TAKE, message, ref))
            elif self._is_to_be_fetched(key, message, ref, withdrawn):
                tasks.append(DownloadTask(Step.FETCH, message, ref))
        return tasks

    def _is_to_be_fetched(
        self, key: EntryKey, message: Message, ref: Mapping[str, Any], withdrawn: set[EntryKey]
    ) -> bool:
        """Whether a ref tells of something that is neither there nor waited for.

        ``withdrawn`` are the episodes of which an earlier ref of the same batch says so.
        """
        if key in withdrawn:
            return True
        edited, waits = ref["found_by"] == EDIT, self._queue.get(key)
        if waits is not None:
            asked_at: int = decode_entry(_SCHEMA, waits)["offset"]
            return edited and message.offset > asked_at
        return edited or not self._known(key).is_there

    async def _settle(self, tasks: Sequence[DownloadTask], fetched: FetchedEpisodes) -> None:
        """Send what the tasks lead to, in steps of which each is in the log before the next.

        An identity is kept before anything is sent under it: a task that comes again may find
        another record, or none. That an episode is there is kept after it was sent, or a kill
        between the two would hide it. What waits is let go last, or nobody would know of it.
        """
        async with self._settling:
            settled = _Settled()
            for task in tasks:
                if self._is_current(task):
                    await self._take(task, fetched, settled)
            for key, identity in settled.new_identities.items():
                set_entry(self._known_episodes, key, KnownEpisode(False, identity).encode())
            await self._context.flush()
            for task, identity, framed in settled.candidates:
                if self._is_current(task):
                    await self._send(task, identity, framed)
            await self._context.flush()
            current = {task.key for task in tasks if self._is_current(task)}
            for key in current & settled.known.keys():
                set_entry(self._known_episodes, key, settled.known[key].encode())
            await self._context.flush()
            for key in current & settled.waits.keys():
                self._queue.replace(key, settled.waits[key])

    def _is_current(self, task: DownloadTask) -> bool:
        return self._queue.is_current(task.key, task.waited)

    async def _take(self, task: DownloadTask, fetched: FetchedEpisodes, into: _Settled) -> None:
        """Note what a task leads to; a task that leads nowhere is a dead letter."""
        into.waits[task.key] = None
        try:
            found = self._outcome(task, fetched)
            framed = self._codec.encode(found) if isinstance(found, dict) else None
        except (SourceError, BadRecordError) as error:
            await self._context.dead_letter(task.message, error)
            return
        if isinstance(found, RetryEntry):
            into.waits[task.key] = found.value
            return
        identity = (into.known.get(task.key) or self._known(task.key)).identity
        if not identity:
            if found is None:
                return  # withdrawn before it was ever there
            identity = into.new_identities[task.key] = identity_of(found)
        into.known[task.key] = KnownEpisode(found is not None, identity)
        into.candidates.append((task, identity, framed))

    async def _send(self, task: DownloadTask, identity: str, framed: bytes | None) -> None:
        """Send the candidate of a task; ``framed`` is its record, None if it is withdrawn."""
        candidate = {
            "identity": identity,
            "episode_id": task.ref["episode_id"],
            "source": task.ref["source"],
            "record": framed,
        }
        await self._context.send(EPISODE_CANDIDATES, candidate, key=identity)

    def _known(self, key: EntryKey) -> KnownEpisode:
        return KnownEpisode.decode(self._known_episodes.get(*key))

    def _outcome(self, task: DownloadTask, fetched: FetchedEpisodes) -> Episode | RetryEntry | None:
        """The `episode` that a task leads to, None if it is withdrawn, or what waits for one.

        Raises SourceError or BadRecordError if there is none.
        """
        if task.step is Step.WITHDRAW:
            return None
        if task.step is Step.TAKE:
            return self._carried(task.ref)
        found = fetched.get((task.ref["source"], task.ref["episode_id"]))
        if found is None:
            return _entry(task, task.attempt, self._clock.now())
        if isinstance(found, UnavailableSourceError):
            if (due := self._due(task, found)) is not None:
                return _entry(task, task.attempt + found.asked, due)
            if found.instead is not None:
                return found.instead
        if isinstance(found, SourceError):
            raise found
        return found

    def _carried(self, ref: Mapping[str, Any]) -> Episode:
        """The record that a ref carries. Raises BadRecordError if it is none, or another's."""
        episode = self._codec.decode(ref["record"])
        if episode["episode_id"] != ref["episode_id"]:
            raise BadRecordError(f"the record is that of {episode['episode_id']}")
        return episode

    def _due(self, task: DownloadTask, error: UnavailableSourceError) -> float | None:
        """When to try again, in Unix seconds; None if that was the last try. Who was not asked
        has not failed.

        `due_after` lets others go first when the source may be asked again, so that episodes that
        never come do not have each probe of a source to themselves, and keep it closed.
        """
        attempt = task.attempt + 1 if error.asked else 1
        begins = self._clock.now() + (error.after_s or 0.0)
        return due_after(attempt, begins, task.ref["episode_id"], self._intervals_s)

    def _task_of_entry(self, partition: int, value: bytes) -> DownloadTask:
        """The task of an entry that waited."""
        record = decode_entry(_SCHEMA, value)
        message = Message(
            topic=EPISODE_IDS.name,
            partition=partition,
            offset=record["offset"],
            key=record["key"],
            value=record["value"],
            headers=tuple((header["name"], header["value"]) for header in record["headers"]),
        )
        ref = self._context.decode(message)
        return DownloadTask(Step.FETCH, message, ref, record["attempt"], waited=value)


def _entry(task: DownloadTask, attempt: int, due: float) -> RetryEntry:
    """What is to wait until ``due``, in Unix seconds; its source was asked so often."""
    message = task.message
    record = {
        "offset": message.offset,
        "key": message.key,
        "value": message.value,
        "headers": [{"name": name, "value": value} for name, value in message.headers],
        "attempt": attempt,
        "due_at": datetime.fromtimestamp(due, UTC),
    }
    return RetryEntry(encode_entry(_SCHEMA, record))


class EpisodeFetcher:
    """The sources of the settings and their connections, for one caller at a time."""

    def __init__(self, context: Context) -> None:
        self._sources = configured_sources(context.settings, context.clock)

    async def fetch(self, refs: Sequence[dict[str, Any]]) -> FetchedEpisodes:
        """The record of each ref, or why there is none; every source is asked once for its refs."""
        wanted: dict[str, dict[str, dict[str, Any]]] = {}
        for ref in refs:
            wanted.setdefault(ref["source"], {})[ref["episode_id"]] = ref
        asked = (self._ask(name, list(refs.values())) for name, refs in wanted.items())
        answers = await asyncio.gather(*asked)
        return {
            (name, episode_id): found
            for name, answer in zip(wanted, answers, strict=True)
            for episode_id, found in answer.items()
        }

    async def _ask(
        self, name: str, refs: Sequence[dict[str, Any]]
    ) -> dict[str, Episode | SourceError]:
        source = self._sources.get(name)
        if source is None:
            error = SourceError(f"source {name!r} is not configured")
            return {ref["episode_id"]: error for ref in refs}
        try:
            return await source.fetch(refs)
        finally:
            await source.close()
