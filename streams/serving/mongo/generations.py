"""Generations of `engagement_windows` in MongoDB: the served one, and others kept beside it.

A generation is promoted only if it shows what the served one shows, so it may take its place
document by document: no reader can tell a mixture. Renaming collections would be one step, but
what `serve_mongo` writes meanwhile would go into the collection that is put aside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TypeVar

import polars as pl
from pymongo import MongoClient, ReplaceOne

from streams.serving.core import documents
from streams.serving.core.documents import Document
from streams.serving.mongo import expiry
from topology.apply import create_index
from topology.model import Collection
from topology.settings import Settings

LOAD_DOCUMENTS = 5_000

T = TypeVar("T")


class WindowGenerations:
    """The served collection, and those of other generations beside it (`…_g2`)."""

    def __init__(self, settings: Settings, declared: Collection):
        self._client: MongoClient[Document] = MongoClient(
            settings.mongodb_uri.get_secret_value(), tz_aware=True, serverSelectionTimeoutMS=10_000
        )
        self._database = self._client[settings.mongodb_database]
        self._served = self._database[declared.name]
        self._declared = declared

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()

    def name(self, generation: int) -> str:
        """The collection of a table generation."""
        return f"{self._declared.name}_g{generation}"

    def documents(self) -> list[Document]:
        """What is being served."""
        return list(self._served.find({}))

    def kept_from(self) -> datetime:
        """What is older has been removed, or is about to be."""
        found = self._database[expiry.EXPIRY].find_one({"_id": expiry.KEY})
        return found[expiry.FIELD] if found else expiry.FOREVER

    def keep(self, generation: int, made: Sequence[Document]) -> str:
        """Write documents into a collection beside the served one; give its name."""
        name = self.name(generation)
        self._database[name].drop()
        for some in _chunks(made):
            self._database[name].insert_many(some, ordered=False)
        for index in self._declared.indexes:
            create_index(self._database, name, index)
        return name

    def take_over(self, before: Sequence[Document], after: Sequence[Document]) -> int:
        """Put documents in the place of those read ``before``; how many were not the same.

        A document that was written since it was read is newer, and stays.
        """
        known = {document["_id"]: document for document in before}
        operations = [
            ReplaceOne({"_id": read["_id"], "parts": read.get("parts")}, document)
            for document in after
            if (read := known.get(document["_id"])) is not None and read != document
        ]
        for some in _chunks(operations):
            self._served.bulk_write(some, ordered=False)
        return len(operations)

    def drop_kept(self) -> list[str]:
        """Remove every collection of another generation; give their names."""
        prefix = f"{self._declared.name}_g"
        names = sorted(n for n in self._database.list_collection_names() if n.startswith(prefix))
        for name in names:
            self._database[name].drop()
        return names


def window_documents(parts: pl.DataFrame) -> list[Document]:
    """Rows of `engagement_window`, one for each source partition, as the documents served."""
    return documents.merge_windows({}, documents.newest_rows(parts))


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), LOAD_DOCUMENTS):
        yield items[start : start + LOAD_DOCUMENTS]
