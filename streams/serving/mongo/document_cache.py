"""Documents of a collection, those used last also in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from streams.serving.core.documents import Document
from streams.serving.mongo.mongo import MongoSink
from streams.state.recent import RecentValues


class DocumentCache:
    """Documents of a collection by id: those put last in memory, the others from the server."""

    def __init__(
        self, sink: MongoSink, collection: str, limit: int, fields: tuple[str, ...] | None = None
    ):
        """At most ``limit`` documents in memory; whole ones, or only ``fields`` of them."""
        self._sink = sink
        self._collection = collection
        self._fields = fields
        self._recent: RecentValues[str, Document] = RecentValues(limit)

    async def get(self, ids: Collection[str]) -> dict[str, Document]:
        """The documents that exist, by id; waits while the server is away."""
        found = {key: known for key in ids if (known := self._recent.get(key)) is not None}
        missing = [key for key in ids if key not in found]
        fetched = await self._sink.find(self._collection, missing, self._fields)
        self.put(fetched.values())
        return found | fetched

    def put(self, changed: Iterable[Document]) -> None:
        """Take over documents as the server has them now."""
        for document in changed:
            self._recent.put(document["_id"], document)

    def forget(self, ids: Iterable[str] | None = None) -> None:
        """Drop what is in memory: of these ids, or everything."""
        if ids is None:
            self._recent.clear()
            return
        for key in ids:
            self._recent.drop(key)
