"""What the API reads of MongoDB, from memory where that is good enough or all there is.

A document is asked for again when it is a second old; until it is three seconds old it is answered
with meanwhile, so that whoever is asked for often is never waited for. All that is asked for while
a question is under way goes with the next one, so that a server gets one at a time of each
collection. While MongoDB is away nobody waits: what is in memory is answered, whatever its age,
and the answer says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from streams.api.core.answers import EPISODE_FIELDS, by_scope
from streams.api.core.filters import Document
from streams.api.pointer import Pointer
from topology.graph import UndeclaredError
from topology.model import Stage
from topology.settings import Settings

log = logging.getLogger(__name__)

FRESH_S = 1.0
USABLE_S = 3.0
SLOW = {"episodes": 30.0, "episode_neighbours": 30.0}
"""Collections that change seldom, and for how long their documents are fresh, seconds."""

WAIT_S = 0.25
"""Longest wait of a request for MongoDB."""

RETRY_S = 1.0
"""Between two questions to a server that is away."""

MEMORY_BYTES = 64 * 2**20
"""So much BSON is remembered; as Python's objects it takes about four times the room."""

ENTRY_BYTES = 512
"""What an entry takes beside its key and document: of what there is not, too."""

_SELECTION_MS, _SOCKET_MS = 1_000, 5_000
_TIMES_IN_UTC: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)
_READ = {"episodes": EPISODE_FIELDS}
_PREPARED: Mapping[str, Callable[[Document], Document]] = {"rolling_windows": by_scope}
_AT_ONCE = 1_000

_Place = tuple[str, str, str, str]
"""Database, collection, field and the value asked for."""


@dataclass(frozen=True)
class Found:
    """Documents by what they were asked for by; ``stale`` if MongoDB could not be asked."""

    documents: Mapping[str, Document]
    stale: bool

    def listed(self, keys: Iterable[str]) -> list[Document]:
        """The documents of these keys that there are, in this order."""
        return [self.documents[key] for key in keys if key in self.documents]


@dataclass(frozen=True)
class _Remembered:
    document: Document | None
    at: float
    size: int


_PINNED: ContextVar[str | None] = ContextVar("database of the version served", default=None)


class Documents:
    """The collections that one stage reads. Documents are shared: nobody may change one.

    They are those of one version for a request that has called `pin`, else of the first.
    """

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        *,
        clock: Callable[[], float] = time.monotonic,
        memory_bytes: int = MEMORY_BYTES,
    ):
        self._client: AsyncMongoClient[RawBSONDocument] = AsyncMongoClient(
            settings.mongodb_uri.get_secret_value(),
            document_class=RawBSONDocument,
            serverSelectionTimeoutMS=_SELECTION_MS,
            connectTimeoutMS=_SELECTION_MS,
            socketTimeoutMS=_SOCKET_MS,
            appname=f"podstream-{stage.name}",
        )
        self._first = settings.mongodb_database
        self._pointer = Pointer(self._client[self._first], clock)
        self._stage = stage
        self._clock = clock
        self._memory: OrderedDict[_Place, _Remembered] = OrderedDict()
        self._memory_bytes = memory_bytes
        self._size = 0
        self._questions: dict[tuple[str, str, str], _Questions] = {}
        self._failed_at: float | None = None

    async def pin(self) -> None:
        """Read one version in all of this request: the one that is served as it begins."""
        _PINNED.set(await self._pointer.database())

    async def find(self, collection: str, keys: Sequence[str], field: str = "_id") -> Found:
        """The documents whose ``field`` is one of ``keys``: one each, where there is any.

        Raises UndeclaredError for a collection that the topology does not give the stage.
        """
        if collection not in self._stage.reads:
            raise UndeclaredError(
                f"Stage {self._stage.name} reads collection {collection!r}, which topology/stages "
                f"does not give it: add it to `reads` of the stage."
            )
        now, fresh = self._clock(), SLOW.get(collection, FRESH_S)
        database = _PINNED.get() or self._first
        ages = {key: self._age((database, collection, field, key), now) for key in keys}
        old = [key for key, age in ages.items() if age > fresh]
        asked = self._ask((database, collection, field), old) if old else None
        late = [key for key in old if ages[key] > fresh + USABLE_S - FRESH_S]
        if asked is not None and late and not self.away:
            await asyncio.wait({asked}, timeout=WAIT_S)
        found, stale = {}, False
        for key in keys:
            place = (database, collection, field, key)
            # what has come since is fresh, however long the wait was
            stale = stale or self._age(place, now) > fresh + USABLE_S - FRESH_S
            if (known := self._memory.get(place)) is not None:
                self._memory.move_to_end(place)
                if known.document is not None:
                    found[key] = known.document
        return Found(found, stale)

    @property
    def away(self) -> bool:
        """Whether MongoDB did not answer the last time it was asked."""
        return self._failed_at is not None

    @property
    def remembered(self) -> int:
        """How many documents are in memory."""
        return len(self._memory)

    async def close(self) -> None:
        """Give back the connections."""
        await self._pointer.stop()
        for questions in self._questions.values():
            await questions.stop()
        await self._client.close()

    def _age(self, place: _Place, now: float) -> float:
        known = self._memory.get(place)
        return float("inf") if known is None else now - known.at

    def _ask(self, place: tuple[str, str, str], keys: Sequence[str]) -> asyncio.Future[None] | None:
        """Have documents fetched; None while a server that is away rests."""
        if self._failed_at is not None and self._clock() < self._failed_at + RETRY_S:
            return None
        if place not in self._questions:

            async def fetch(wanted: list[str]) -> None:
                await self._fetch(*place, wanted)

            self._questions[place] = _Questions(fetch)
        return self._questions[place].ask(keys)

    async def _fetch(self, database: str, collection: str, field: str, keys: list[str]) -> None:
        fields = _READ.get(collection)
        projection = None if fields is None else dict.fromkeys((field, *fields), 1)
        documents = self._client[database][collection]
        try:
            raw: dict[str, RawBSONDocument] = {}
            if field == "_id":
                for start in range(0, len(keys), _AT_ONCE):
                    some = keys[start : start + _AT_ONCE]
                    async for document in documents.find({"_id": {"$in": some}}, projection):
                        raw[document["_id"]] = document
            else:
                for key in keys:
                    one = await documents.find_one({field: key}, projection)
                    if one is not None:
                        raw[key] = one
        except PyMongoError as error:
            if self._failed_at is None:
                log.warning("MongoDB is away (%s): answers are from memory", type(error).__name__)
            self._failed_at = self._clock()
            return
        if self._failed_at is not None:
            self._failed_at = None
            log.warning("MongoDB is back")
        now = self._clock()
        for key in keys:
            self._put((database, collection, field, key), raw.get(key), now)

    def _put(self, place: _Place, raw: RawBSONDocument | None, at: float) -> None:
        """Remember a document, or that there is none; the least used ones make room for it."""
        document: Document | None = None
        size = ENTRY_BYTES + len(place[3].encode())
        if raw is not None:
            document = bson.decode(raw.raw, _TIMES_IN_UTC)
            size += len(raw.raw)
            if (prepare := _PREPARED.get(place[1])) is not None:
                document = prepare(document)
        before = self._memory.pop(place, None)
        self._size += size - (before.size if before else 0)
        self._memory[place] = _Remembered(document, at, size)
        while self._size > self._memory_bytes and len(self._memory) > 1:
            _, forgotten = self._memory.popitem(last=False)
            self._size -= forgotten.size


class _Questions:
    """Questions about one collection: one at a time, what is asked meanwhile goes together."""

    def __init__(self, fetch: Callable[[list[str]], Awaitable[None]]):
        self._fetch = fetch
        self._wanted: dict[str, None] = {}
        self._under_way: frozenset[str] = frozenset()
        self._current: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def ask(self, keys: Iterable[str]) -> asyncio.Future[None]:
        """Done once all of these have been fetched, or could not be."""
        missing = [key for key in keys if key not in self._under_way]
        if not missing and self._current is not None:
            return self._current
        self._wanted.update(dict.fromkeys(missing))
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return self._next

    async def _run(self) -> None:
        while self._next is not None:
            self._current, self._next = self._next, None
            wanted, self._wanted = list(self._wanted), {}
            self._under_way = frozenset(wanted)
            try:
                await self._fetch(wanted)
            except Exception:  # of one document, which must not keep all others from being read
                log.exception("What MongoDB gave could not be read")
            finally:
                self._current.set_result(None)
                self._current, self._under_way = None, frozenset()
        self._task = None

    async def stop(self) -> None:
        """Ask no more, and let go of what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
