"""MongoDB as a sink of the log: batched upserts by ``_id``, which wait while the server is away.

Only writes by ``_id`` alone are used: they may be repeated, and every server finds them at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pymongo import DeleteOne, MongoClient, ReplaceOne, UpdateOne
from pymongo.errors import AutoReconnect, BulkWriteError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from streams.kafka.message import Message
from streams.serving.core.documents import Document
from topology.graph import UndeclaredError
from topology.model import Stage
from topology.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

SERVER_SELECTION_TIMEOUT_MS = 2_000
ANSWER_TIMEOUT_MS = 60_000
"""Longest wait for one answer: a server that never gives it must not stop the stage for ever."""

LONGEST_PAUSE_S = 10.0
FIND_CHUNK = 2_000
DUPLICATE_KEY = 11_000

PROGRESS = "serving_progress"


class LostWritesError(RuntimeError):
    """The server lost what it had taken: it was killed before its data was on its disk."""


class MongoSink:
    """The collections that one stage writes. Calls return once the server has the data in its
    journal.

    While the server cannot be reached, or does not answer, a call waits and tries again for ever;
    what else goes wrong is raised as pymongo's errors.
    """

    def __init__(self, settings: Settings, stage: Stage):
        self._client: MongoClient[Document] = MongoClient(
            settings.mongodb_uri.get_secret_value(),
            serverSelectionTimeoutMS=SERVER_SELECTION_TIMEOUT_MS,
            socketTimeoutMS=ANSWER_TIMEOUT_MS,
            journal=True,
            tz_aware=True,
            appname=f"podstream-{stage.name}",
        )
        self._database = self._client[settings.mongodb_database]
        self._stage = stage
        self._away = False
        self._marked: dict[str, int] = {}

    async def replace(self, collection: str, documents: Sequence[Document]) -> None:
        """Put each document in the place of the one with its ``_id``."""
        await self._write(
            collection, [ReplaceOne({"_id": d["_id"]}, d, upsert=True) for d in documents]
        )

    async def set_fields(self, collection: str, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Set fields (dotted paths) of the documents with these ids, which are made if need be.

        A document that somebody else makes at the same moment may be left as it is: look again.
        """
        await self._update(
            collection,
            [
                UpdateOne({"_id": key}, {"$set": fields}, upsert=True)
                for key, fields in changes.items()
            ],
        )

    async def raise_to(self, collection: str, key: str, field: str, value: datetime) -> None:
        """Set a field of a document to a time, unless it has a later one."""
        operation = UpdateOne({"_id": key}, {"$max": {field: value}}, upsert=True)
        await self._update(collection, [operation])

    async def _update(self, collection: str, operations: Sequence[UpdateOne]) -> None:
        try:
            await self._write(collection, operations)
        except BulkWriteError as error:
            if any(one["code"] != DUPLICATE_KEY for one in error.details["writeErrors"]):
                raise

    async def delete(self, collection: str, ids: Iterable[str]) -> None:
        """Remove the documents with these ids, where there are any."""
        await self._write(collection, [DeleteOne({"_id": key}) for key in ids])

    async def find(
        self, collection: str, ids: Iterable[str], fields: Sequence[str] | None = None
    ) -> dict[str, Document]:
        """The documents with these ids that exist, by ``_id``; whole, or only ``fields``."""
        target = self._collection(collection)
        wanted = list(ids)

        def fetch() -> dict[str, Document]:
            found: dict[str, Document] = {}
            for start in range(0, len(wanted), FIND_CHUNK):
                chunk = wanted[start : start + FIND_CHUNK]
                for document in target.find({"_id": {"$in": chunk}}, fields):
                    found[document["_id"]] = document
            return found

        return await asyncio.to_thread(self._patiently, fetch) if wanted else {}

    async def find_any(
        self, collection: str, field: str, values: Iterable[str], fields: Sequence[str]
    ) -> dict[str, Document]:
        """One document with each of these values of ``field``, where there is any, by value."""
        target = self._collection(collection)
        wanted = list(values)

        def fetch() -> dict[str, Document]:
            found = ((value, target.find_one({field: value}, fields)) for value in wanted)
            return {value: document for value, document in found if document is not None}

        return await asyncio.to_thread(self._patiently, fetch) if wanted else {}

    async def older(self, collection: str, field: str, than: datetime, limit: int) -> list[str]:
        """The ids of the ``limit`` oldest documents whose time ``field`` is before ``than``."""
        target = self._collection(collection)

        def fetch() -> list[str]:
            found = target.find({field: {"$lt": than}}, ["_id"]).sort(field, 1).limit(limit)
            return [document["_id"] for document in found]

        return await asyncio.to_thread(self._patiently, fetch)

    async def progress(self, topic: str, partitions: int) -> dict[int, int]:
        """How far each partition of a topic was marked, by whichever worker; -1: nothing yet."""
        keys = {partition: f"{topic}|{partition}" for partition in range(partitions)}
        found = await self.find(PROGRESS, keys.values())
        return {p: found[key]["offset"] if key in found else -1 for p, key in keys.items()}

    async def mark(self, messages: Sequence[Message]) -> None:
        """Note, behind what was written for these messages, that it was written.

        Raises LostWritesError if what this process noted before is no longer there.
        """
        ends = _ends(messages)
        noted = {key: self._marked[key] for key in ends if key in self._marked}
        await self._require(noted)
        await self.replace(PROGRESS, [{"_id": key, "offset": end} for key, end in ends.items()])
        self._marked.update(ends)

    async def confirm(self, messages: Sequence[Message]) -> None:
        """Raise LostWritesError unless the server still has what was marked.

        A server answers before its data is on the disk. It writes in order, so a mark that is
        there after a restart vouches for all that came before it.
        """
        await self._require(_ends(messages))

    def forget_marks(self) -> None:
        """Partitions moved: others may have noted their progress since."""
        self._marked.clear()

    async def _require(self, ends: dict[str, int]) -> None:
        found = await self.find(PROGRESS, ends)
        for key, end in ends.items():
            if found.get(key, {}).get("offset", -1) < end:
                raise LostWritesError(f"MongoDB has lost what was written up to {key}@{end}")

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()

    async def _write(
        self, collection: str, operations: Sequence[ReplaceOne[Document] | UpdateOne | DeleteOne]
    ) -> None:
        target = self._collection(collection)
        if operations:
            await asyncio.to_thread(
                self._patiently, lambda: target.bulk_write(operations, ordered=False)
            )

    def _collection(self, name: str) -> Any:
        if name not in self._stage.writes:
            raise UndeclaredError(
                f"Stage {self._stage.name} writes collection {name!r}, which topology/stages "
                f"does not give it: add it to `writes` of the stage."
            )
        return self._database[name]

    def _patiently(self, call: Callable[[], T]) -> T:
        retrying = Retrying(
            retry=retry_if_exception_type(AutoReconnect),
            wait=wait_exponential(multiplier=0.1, max=LONGEST_PAUSE_S),
            before_sleep=self._report_outage,
        )
        result = retrying(call)
        if self._away:
            self._away = False
            log.warning("%s: MongoDB is back", self._stage.name)
        return result

    def _report_outage(self, state: RetryCallState) -> None:
        # Several collections wait at once: one line an outage, without the URI and its password.
        if not self._away:
            self._away = True
            error = state.outcome.exception() if state.outcome else None
            log.warning(
                "%s: MongoDB is away (%s); waiting for it", self._stage.name, type(error).__name__
            )


def _ends(messages: Sequence[Message]) -> dict[str, int]:
    """`topic|partition` -> the highest offset among the messages."""
    ends: dict[str, int] = {}
    for message in messages:
        key = f"{message.topic}|{message.partition}"
        ends[key] = max(message.offset, ends.get(key, -1))
    return ends
