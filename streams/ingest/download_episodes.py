"""Gets the full record of each announced episode and passes it on to `episode-candidates`.

A reference that carries its record, or says that the episode is withdrawn, needs no fetching.
Which episodes are there, and under which identity, is kept: an episode is fetched once, again if
it was edited or comes back, and stays the episode it is when its publisher moves its audio.

What its source cannot give now waits in a table whose topic is the retry topic, and is asked for
again with growing waits; after the last try the reference goes to the dead-letter topic. What is
said of an episode later, an edit or a withdrawal, supersedes what waits. When many are to be
fetched, most of them wait there from the start: a slow source delays no record that is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from itertools import islice
from typing import Any

from schemas.codec import BadRecordError, RecordCodec
from streams.http.newest import EntryKey
from streams.http.rate_limits import report_hosts
from streams.http.retries import decode_entry, due_after, encode_entry
from streams.http.retry_queue import RetryQueue, keep
from streams.ingest.core.identity import identity_of
from streams.ingest.sources.base import Episode, SourceError, UnavailableSourceError
from streams.ingest.sources.configured import configured_sources
from streams.kafka.message import Message
from streams.runtime.context import Context, decode_all
from streams.state.protocols import StateTable
from topology.settings import Settings

TOPIC = "episode-ids"
REFS_TAKEN = 500
REFS_AT_ONCE = 20
"""Episodes that a handler or a retry fetches before it goes on."""
RETRY_EVERY_S = 5.0
EDIT = "edit"
"""`found_by` of an episode that is known and has changed."""

Fetched = Mapping[tuple[str, str], Episode | SourceError]
"""By source and episode_id: the record, or why there is none."""

_WAITING = "download_retry"


class Step(Enum):
    """What a reference asks for."""

    FETCH = "fetch"
    TAKE = "take the record that it carries"
    WITHDRAW = "withdraw"


@dataclass(frozen=True)
class Task:
    """A reference and what it asks for; ``waited`` is the entry of the table that it comes from,
    and ``attempt`` how often its source was asked before."""

    step: Step
    message: Message
    ref: dict[str, Any]
    attempt: int = 0
    waited: bytes | None = None

    @property
    def place(self) -> EntryKey:
        return self.message.partition, self.ref["episode_id"].encode()


def register(context: Context) -> None:
    """Take refs as they come, and later those that wait for their source."""
    report_hosts(context)
    downloads = Downloads(context)
    context.agent(TOPIC, max_batch=REFS_TAKEN)(downloads.handle_episode_ids)
    context.timer(RETRY_EVERY_S)(downloads.retry)


class Downloads:
    """The stage: its handler of refs and its timer for retries, which run side by side.

    The table `downloads` holds, by episode_id, `+` or `-` (withdrawn) and identity. Both fetch at
    the same time, but settle what they got one after the other: what waits is only replaced there,
    so that a retry which finds its entry as it was is the latest word on its episode.
    """

    def __init__(self, context: Context):
        self._context = context
        self._new, self._again = Asking(context.settings), Asking(context.settings)
        self._intervals_s = context.settings.fetch_retry_s
        self._codec = RecordCodec("episode-metadata", "episode", context.registry)
        self._table: StateTable = context.table("downloads")
        self._waiting = RetryQueue(context, "download_retries")
        self._settling = asyncio.Lock()

    async def handle_episode_ids(self, messages: list[Message]) -> None:
        """Do what the refs ask for, those of each episode in their order.

        What needs no fetching goes first, then a few are fetched; the others wait for `retry`.
        """
        tasks = self._plan(await decode_all(self._context, messages))
        fetching = [task for task in tasks if task.step is Step.FETCH]
        few = set(list(dict.fromkeys(task.place for task in fetching))[:REFS_AT_ONCE])
        await self._settle([task for task in tasks if task.place not in few], {})
        wanted = [task.ref for task in fetching if task.place in few]
        fetched = await self._new.fetch(wanted)
        await self._settle([task for task in tasks if task.place in few], fetched)

    async def retry(self) -> None:
        """Ask again for what is due, a few episodes at a time."""
        # What fails anew is due later than this, so that there is an end to it.
        due = iter(partial(self._waiting.take, time.time()), None)
        while some := list(islice(due, REFS_AT_ONCE)):
            tasks = [self._task(partition, value) for (partition, _), value in some]
            await self._settle(tasks, await self._again.fetch([task.ref for task in tasks]))

    async def _settle(self, tasks: Sequence[Task], fetched: Fetched) -> None:
        """Send what the tasks lead to, and only then remember that it was sent."""
        async with self._settling:
            known: dict[EntryKey, tuple[bool, str]] = {}
            waits: dict[EntryKey, bytes | None] = {}
            for task in tasks:
                if task.waited is not None and not self._waiting.still(task.place, task.waited):
                    continue  # superseded meanwhile, or another worker's now
                waits[task.place] = None
                try:
                    episode = self._episode(task, fetched)
                    framed = None if episode is None else self._codec.encode(episode)
                except _LaterError as later:
                    waits[task.place] = later.entry
                    continue
                except (SourceError, BadRecordError) as error:
                    await self._context.dead_letter(task.message, error)
                    continue
                _, identity = known.get(task.place) or self._known(task.place)
                if episode is not None:
                    identity = identity or identity_of(episode)
                elif not identity:
                    continue  # withdrawn before it was ever there
                known[task.place] = (episode is not None, identity)
                candidate = {
                    "identity": identity,
                    "episode_id": task.ref["episode_id"],
                    "source": task.ref["source"],
                    "record": framed,
                }
                await self._context.send("episode-candidates", candidate, key=identity)
            await self._context.flush()
            for place, (there, identity) in known.items():
                keep(self._table, place, (b"+" if there else b"-") + identity.encode())
            for place, wait in waits.items():
                self._waiting.keep(place, wait)

    def _known(self, place: EntryKey) -> tuple[bool, str]:
        """Whether an episode is there, and its identity, empty if it never was."""
        value = self._table.get(*place) or b"-"
        return value.startswith(b"+"), value[1:].decode()

    def _plan(self, refs: Sequence[tuple[Message, dict[str, Any]]]) -> list[Task]:
        """What to do for each ref; those of episodes that are there ask for nothing, nor do those
        of episodes that wait, unless they tell of something newer."""
        tasks: list[Task] = []
        gone: set[EntryKey] = set()
        for message, ref in refs:
            place = (message.partition, ref["episode_id"].encode())
            waiting = self._waiting.get(place)
            edited = ref["found_by"] == EDIT
            if ref["withdrawn"]:
                tasks.append(Task(Step.WITHDRAW, message, ref))
                gone.add(place)
            elif ref["record"] is not None:
                tasks.append(Task(Step.TAKE, message, ref))
            elif waiting is not None and place not in gone:
                if edited and message.offset > decode_entry(_WAITING, waiting)["offset"]:
                    tasks.append(Task(Step.FETCH, message, ref))
            elif edited or place in gone or not self._known(place)[0]:
                tasks.append(Task(Step.FETCH, message, ref))
        return tasks

    def _episode(self, task: Task, fetched: Fetched) -> Episode | None:
        """The `episode` that a task leads to, None if it is withdrawn.

        _LaterError if it is to be tried again; SourceError or BadRecordError if there is none.
        """
        ref = task.ref
        if task.step is Step.WITHDRAW:
            return None
        if task.step is Step.TAKE:
            episode = self._codec.decode(ref["record"])
            if episode["episode_id"] != ref["episode_id"]:
                raise BadRecordError(f"the record is that of {episode['episode_id']}")
            return episode
        found = fetched.get((ref["source"], ref["episode_id"]))
        if found is None:
            raise _LaterError(_entry(task, task.attempt, time.time()))
        if isinstance(found, UnavailableSourceError):
            if (due := self._due(task, found)) is not None:
                raise _LaterError(_entry(task, task.attempt + found.asked, due))
            if found.instead is not None:
                return found.instead
        if isinstance(found, SourceError):
            raise found
        return found

    def _due(self, task: Task, error: UnavailableSourceError) -> float | None:
        """When to try again; None if that was the last try. Who was not asked has not failed.

        `due_after` lets others go first when the source may be asked again, so that episodes that
        never come do not have each probe of a source to themselves, and keep it closed.
        """
        attempt = task.attempt + 1 if error.asked else 1
        begins = time.time() + (error.after_s or 0.0)
        return due_after(attempt, begins, task.ref["episode_id"], self._intervals_s)

    def _task(self, partition: int, value: bytes) -> Task:
        """The task of an entry that waited."""
        record = decode_entry(_WAITING, value)
        message = Message(
            topic=TOPIC,
            partition=partition,
            offset=record["offset"],
            key=record["key"],
            value=record["value"],
            headers=tuple((header["name"], header["value"]) for header in record["headers"]),
        )
        ref = self._context.decode(message)
        return Task(Step.FETCH, message, ref, record["attempt"], waited=value)


def _entry(task: Task, attempt: int, due: float) -> bytes:
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
    return encode_entry(_WAITING, record)


class _LaterError(Exception):
    """An episode is to be tried again; ``entry`` is to wait until then."""

    def __init__(self, entry: bytes) -> None:
        super().__init__("later")
        self.entry = entry


class Asking:
    """The sources and their connections, for one who asks at a time."""

    def __init__(self, settings: Settings) -> None:
        self._sources = configured_sources(settings)

    async def fetch(self, refs: Sequence[dict[str, Any]]) -> Fetched:
        """Ask every source once for all that is wanted of it."""
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
