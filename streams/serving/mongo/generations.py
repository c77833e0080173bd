"""Generations of `engagement_windows` in MongoDB: the served one, and others kept beside it.

Collections are read by ranges of `_id`, some documents at a time, however many there are.

A generation is promoted only if it shows what the served one shows, so it may take its place
document by document: no reader can tell a mixture. Renaming collections would be one step, but
what `serve_mongo` writes meanwhile would go into the collection that is put aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl
from pymongo import MongoClient, ReplaceOne

from streams.serving.core import documents
from streams.serving.core.documents import Document
from streams.serving.mongo import expiry
from topology.apply import create_index
from topology.model import Collection
from topology.settings import Settings

LOAD_DOCUMENTS = 2_000


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

    def batches(self) -> Iterator[list[Document]]:
        """What is being served, in the order of `_id`: at most LOAD_DOCUMENTS at a time.

        What is written meanwhile may be among them or not.
        """
        wanted: Document = {}
        while found := list(self._served.find(wanted).sort("_id", 1).limit(LOAD_DOCUMENTS)):
            yield found
            wanted = {"_id": {"$gt": found[-1]["_id"]}}

    def kept_from(self) -> datetime:
        """What is older has been removed, or is about to be."""
        found = self._database[expiry.EXPIRY].find_one({"_id": expiry.MINUTES.key})
        return found[expiry.FIELD] if found else expiry.FOREVER

    def keep_served(self, generation: int) -> str:
        """Copy what is being served into a collection beside it; give its name."""
        return self._keep(generation, self.batches())

    def keep(self, generation: int, parts: pl.DataFrame) -> str:
        """Write window rows as documents into a collection beside the served one; give its name."""
        return self._keep(generation, (window_documents(some) for some in _by_document(parts)))

    def _keep(self, generation: int, batches: Iterable[Sequence[Document]]) -> str:
        name = self.name(generation)
        self._database[name].drop()
        for some in batches:
            self._database[name].insert_many(some, ordered=False)
        for index in self._declared.indexes:
            create_index(self._database, name, index)
        return name

    def take_over(self, read: pl.DataFrame, parts: pl.DataFrame) -> int:
        """Put documents made of window rows in the place of those served; how many differed.

        ``read`` says of each document that was compared how far each source partition had counted
        (`source_partition` and `offset` by episode and bucket). A document that was written since
        is newer, and stays.
        """
        replaced = 0
        for some in _by_document(parts):
            made = {document["_id"]: document for document in window_documents(some)}
            keys = some.select("episode_id", "bucket").unique()
            compared = _offsets(read.join(keys, on=["episode_id", "bucket"]))
            operations = [
                ReplaceOne(
                    {"_id": served["_id"], "parts": served.get("parts")}, made[served["_id"]]
                )
                for served in self._served.find({"_id": {"$in": list(made)}})
                if served != made[served["_id"]] and compared.get(served["_id"]) == _counted(served)
            ]
            if operations:
                self._served.bulk_write(operations, ordered=False)
            replaced += len(operations)
        return replaced

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


def _by_document(parts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Window rows, some at a time: never a part of a document's without the others."""
    ordered = parts.sort("episode_id", "bucket")
    place = ordered.select(pl.struct("episode_id", "bucket").rle_id() // LOAD_DOCUMENTS).to_series()
    start = 0
    while start < ordered.height:
        end = int(place.search_sorted(place[start], side="right"))
        yield ordered[start:end]
        start = end


def _offsets(read: pl.DataFrame) -> dict[str, dict[str, int]]:
    """`_id` -> source partition -> how far it had counted."""
    found: dict[str, dict[str, int]] = {}
    for row in read.iter_rows(named=True):
        key = documents.minute_id(row["episode_id"], row["bucket"])
        found.setdefault(key, {})[str(row["source_partition"])] = row["offset"]
    return found


def _counted(document: Mapping[str, Any]) -> dict[str, int]:
    return {place: part["offset"] for place, part in document.get("parts", {}).items()}
