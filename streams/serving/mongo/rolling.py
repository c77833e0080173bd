"""The `rolling_windows` documents, kept by any number of workers together.

A document adds up all source partitions, and a worker is sent only some of them. So each worker
leaves the newest part of its own partitions in `rolling_window_parts`, and each makes the
documents of all the parts there are. Two may write a document at once; but whoever has left a
part, or finds by the progress marks that somebody else has, writes again. The last write of every
worker is thus made of the newest parts, and whichever comes last is right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from streams.serving.core.documents import Document
from streams.serving.core.rolling_documents import add_up, pack, rolling_documents, unpack
from streams.serving.mongo.mongo import MongoSink
from topology.topics.engagement import ROLLING_WINDOWS

PARTS, WINDOWS, EPISODES = "rolling_window_parts", "rolling_windows", "episodes"

Titles = Callable[[Collection[str]], Awaitable[Mapping[str, Document]]]


@dataclass(frozen=True, slots=True)
class RollingPart:
    """The rows of a source partition's newest message, and the offset of that message."""

    offset: int
    rows: pl.DataFrame


_NOTHING = RollingPart(-1, pl.DataFrame())


class RollingWindows:
    """What this worker knows of the parts, and which documents it wrote last."""

    def __init__(self, sink: MongoSink, partitions: int, titles: Titles):
        """``titles`` gives the documents of episodes, with `title` and `show_title`."""
        self._sink = sink
        self._partitions = partitions
        self._titles = titles
        self._parts: dict[int, RollingPart] = {}
        self._shows: dict[str, Document] = {}
        self._written: dict[str, Document] = {}
        self._changed = False

    async def put(self, told: Mapping[int, RollingPart]) -> None:
        """Leave the newest parts of own partitions for all workers; repeats change nothing."""
        await self._load(partition for partition in told if partition not in self._parts)
        newer = self._newer(told)
        await self._sink.replace(
            PARTS,
            [
                {"_id": str(partition), "offset": part.offset, "rows": pack(part.rows)}
                for partition, part in newer.items()
            ],
        )
        self._note(newer)

    async def refresh(self) -> None:
        """Write the documents that the parts left since have changed."""
        marks = await self._sink.progress(ROLLING_WINDOWS.name, self._partitions)
        await self._load(
            partition
            for partition, offset in marks.items()
            if offset > self._parts.get(partition, _NOTHING).offset
        )
        if not self._changed:
            return
        self._changed = False
        rolling = await asyncio.to_thread(add_up, [part.rows for part in self._parts.values()])
        episodes = await self._titles(rolling.scopes("episode"))
        shows = await self._titles_of_shows(rolling.scopes("show"))
        made = await asyncio.to_thread(rolling_documents, rolling, episodes, shows)
        await self._sink.replace(WINDOWS, [d for d in made if self._written.get(d["_id"]) != d])
        self._written = {document["_id"]: document for document in made}

    def forget(self) -> None:
        """Partitions moved: others may have left parts and written documents since."""
        self._parts.clear()
        self._written.clear()

    def forget_shows(self, show_ids: Iterable[str]) -> None:
        """These shows may have another title now."""
        for show_id in show_ids:
            self._shows.pop(show_id, None)

    async def _load(self, partitions: Iterable[int]) -> None:
        stored = await self._sink.find(PARTS, [str(partition) for partition in partitions])
        self._note(
            {
                int(document["_id"]): RollingPart(document["offset"], unpack(document["rows"]))
                for document in stored.values()
            }
        )

    def _newer(self, parts: Mapping[int, RollingPart]) -> dict[int, RollingPart]:
        return {
            partition: part
            for partition, part in parts.items()
            if part.offset > self._parts.get(partition, _NOTHING).offset
        }

    def _note(self, parts: Mapping[int, RollingPart]) -> None:
        if newer := self._newer(parts):
            self._parts.update(newer)
            self._changed = True

    async def _titles_of_shows(self, show_ids: Collection[str]) -> Mapping[str, Document]:
        unknown = [show_id for show_id in show_ids if show_id not in self._shows]
        self._shows |= await self._sink.find_any(EPISODES, "show_id", unknown, ("show_title",))
        return self._shows
