"""Generations of `engagement_windows` in MongoDB: loaded beside the served one, then swapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from pymongo import MongoClient
from pymongo.errors import DuplicateKeyError

from streams.core import documents
from streams.core.documents import Document
from topology.apply import create_index
from topology.model import Collection
from topology.settings import Settings

LOAD_DOCUMENTS = 5_000


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
        self._client.close()

    def name(self, generation: int) -> str:
        return f"{self._declared.name}_g{generation}"

    def documents(self) -> list[Document]:
        """What is being served."""
        return list(self._served.find({}))

    def load(self, generation: int, parts: pl.DataFrame) -> str:
        """Write rows of `engagement_window` into a collection of their own; give its name."""
        name = self.name(generation)
        rows = documents.newest_rows(parts)
        self._fill(name, documents.merge_windows({}, rows))
        for index in self._declared.indexes:
            create_index(self._database, name, index)
        return name

    def swap(self, current: int, new: int) -> str:
        """Serve generation ``new``; the served one is kept as ``current``. Gives its name.

        For readers it is one step: there is no moment without the collection.
        """
        self._fill(self.name(current), self.documents())
        self._database[self.name(new)].rename(self._declared.name, dropTarget=True)
        return self.name(current)

    def apply_missing(self, rows: pl.DataFrame) -> int:
        """Merge rows of `engagement_window` that are not served yet; how many documents changed.

        A document that somebody else changes meanwhile is left to them: look again.
        """
        changed = 0
        for some in documents.newest_rows(rows).iter_slices(LOAD_DOCUMENTS):
            ids = some["_id"].unique().to_list()
            stored = {d["_id"]: d for d in self._served.find({"_id": {"$in": ids}})}
            for document in documents.merge_windows(stored, some):
                self._replace_if_unchanged(stored.get(document["_id"]), document)
                changed += 1
        return changed

    def drop_kept(self) -> list[str]:
        """Remove every collection of another generation; give their names."""
        prefix = f"{self._declared.name}_g"
        names = sorted(n for n in self._database.list_collection_names() if n.startswith(prefix))
        for name in names:
            self._database[name].drop()
        return names

    def _fill(self, name: str, made: Sequence[Document]) -> None:
        self._database[name].drop()
        for some in _chunks(made):
            self._database[name].insert_many(some, ordered=False)

    def _replace_if_unchanged(self, stored: Mapping[str, Any] | None, document: Document) -> None:
        if stored is not None:
            self._served.replace_one({"_id": document["_id"], "parts": stored["parts"]}, document)
            return
        try:
            self._served.insert_one(document)
        except DuplicateKeyError:
            return


def _chunks(made: Sequence[Document]) -> Iterator[Sequence[Document]]:
    for start in range(0, len(made), LOAD_DOCUMENTS):
        yield made[start : start + LOAD_DOCUMENTS]
