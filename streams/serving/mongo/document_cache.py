"""Documents of a collection, those used last also in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable

from streams.serving.core.documents import Document
from streams.serving.mongo.mongo import MongoSink


class DocumentCache:
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
