"""serve_mongo: keeps MongoDB in step with the log by idempotent batched upserts.

Every write is the whole document, so that records may come again. Documents merged from several
source partitions are read back once a batch, unless this process wrote them lately itself; all
records of one such document come through one Kafka partition, hence from one writer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Any

import polars as pl

from streams.context import Context, Handler, Message, decode_all
from streams.core import documents
from streams.core.documents import Document
from streams.sinks.mongo import MongoSink

WINDOWS_REMEMBERED = 20_000
WINDOWS_PER_WRITE = 1_000
TITLES_REMEMBERED = 100_000


class Remembered:
    """Documents of a collection by id: the ones used last in memory, the others from the server."""

    def __init__(
        self, sink: MongoSink, collection: str, limit: int, fields: tuple[str, ...] | None = None
    ):
        self._sink = sink
        self._collection = collection
        self._limit = limit
        self._fields = fields
        self._known: OrderedDict[str, Document] = OrderedDict()

    async def get(self, ids: Collection[str]) -> dict[str, Document]:
        """The documents that exist."""
        missing = [key for key in ids if key not in self._known]
        found = {key: self._known[key] for key in ids if key in self._known}
        fetched = await self._sink.find(self._collection, missing, self._fields)
        self.put(fetched.values())
        return found | fetched

    def put(self, changed: Iterable[Document]) -> None:
        for document in changed:
            self._known[document["_id"]] = document
            self._known.move_to_end(document["_id"])
        while len(self._known) > self._limit:
            self._known.popitem(last=False)

    def forget(self, ids: Iterable[str] | None = None) -> None:
        """Drop what is in memory: of these ids, or everything."""
        if ids is None:
            self._known.clear()
            return
        for key in ids:
            self._known.pop(key, None)


def register(context: Context) -> None:
    """Declare one agent for each topic that MongoDB shows."""
    sink = MongoSink(context.settings, context.stage)
    windows = Remembered(sink, "engagement_windows", WINDOWS_REMEMBERED)
    titles = Remembered(sink, "episodes", TITLES_REMEMBERED, ("title", "show_title"))
    context.on_rebalance(windows.forget)
    context.on_rebalance(sink.forget_marks)

    async def upsert(
        messages: list[Message], collection: str, to_document: Callable[[Any], Document]
    ) -> list[Document]:
        """Write the newest document of each key; a tombstone (key without value) removes it."""
        removed = {_key(m): m.offset for m in messages if m.value is None and m.key}
        kept = [m for m in messages if not (m.value is None and m.key)]
        changed = documents.newest(
            to_document(record)
            for message, record in await decode_all(context, kept)
            if message.offset > removed.get(_key(message), -1)
        )
        gone = set(removed) - {document["_id"] for document in changed}
        await sink.replace(collection, changed)
        await sink.delete(collection, gone)
        return changed

    def serve(topic: str, max_batch: int = 64) -> Callable[[Handler], Handler]:
        """An agent whose messages are acknowledged once the server has them on its disk."""

        def decorate(handler: Handler) -> Handler:
            async def marked(messages: list[Message]) -> None:
                await handler(messages)
                await sink.mark(messages)

            return context.agent(topic, max_batch=max_batch, confirm=sink.confirm)(marked)

        return decorate

    @serve("recommendations", max_batch=256)
    async def serve_recommendations(messages: list[Message]) -> None:
        await upsert(messages, "final_recommendations", documents.recommendation_document)

    @serve("episode-metadata", max_batch=512)
    async def serve_episodes(messages: list[Message]) -> None:
        changed = await upsert(messages, "episodes", documents.episode_document)
        titles.forget(document["_id"] for document in changed)

    @serve("model-metrics", max_batch=512)
    async def serve_metrics(messages: list[Message]) -> None:
        await upsert(messages, "model_metrics", documents.metric_document)

    @serve("table-generations")
    async def serve_table_generations(messages: list[Message]) -> None:
        await upsert(messages, "table_generations", documents.table_generation_document)

    @serve("engagement-windows")
    async def serve_windows(messages: list[Message]) -> None:
        frames = [rows for _, rows in await decode_all(context, messages)]
        if not frames:
            return
        rows = documents.newest_rows(pl.concat(frames))
        # Years of imported history touch a document a minute: small writes leave the loop free.
        for some in rows.iter_slices(WINDOWS_PER_WRITE):
            stored = await windows.get(some["_id"].unique().to_list())
            changed = documents.merge_windows(stored, some)
            await sink.replace("engagement_windows", changed)
            windows.put(changed)

    @serve("trending-episodes", max_batch=512)
    async def serve_trending(messages: list[Message]) -> None:
        records = [record for _, record in await decode_all(context, messages)]
        stored = await sink.find("trending_episodes", {record["scope"] for record in records})
        merged = documents.merge_trending(stored, records)
        ids = {place["episode_id"] for document in merged for place in document["episodes"]}
        known = await titles.get(ids)
        await sink.replace(
            "trending_episodes", [documents.with_titles(document, known) for document in merged]
        )


def _key(message: Message) -> str:
    return message.key.decode(errors="replace") if message.key else ""
