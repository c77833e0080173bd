"""Commands that read: find and what goes with it, count, distinct, aggregate, explain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bson import Int64
from bson.raw_bson import RawBSONDocument

from streams.cli.local.mongo_server import errors, grouping, semantics
from streams.cli.local.mongo_server.arguments import (
    Arguments,
    Command,
    cursor_answer,
    namespace_of,
    plain,
)
from streams.cli.local.mongo_server.catalogue import Catalogue, Description
from streams.cli.local.mongo_server.collection import Documents, Query
from streams.cli.local.mongo_server.cursors import (
    FIRST_BATCH,
    Cursor,
    Cursors,
    Fetched,
    fitting,
)
from streams.cli.local.mongo_server.documents import Document, decoded, encoded, values_at
from streams.cli.local.mongo_server.errors import CommandError
from streams.cli.local.mongo_server.store import Store


class Reading:
    """The commands that read."""

    def __init__(self, store: Store, catalogue: Catalogue):
        self._store = store
        self._catalogue = catalogue
        self._cursors = Cursors()

    def commands(self) -> dict[str, Command]:
        """By name."""
        return {
            "aggregate": self._aggregate,
            "count": self._count,
            "distinct": self._distinct,
            "explain": self._explain,
            "find": self._find,
            "getMore": self._get_more,
            "killCursors": self._kill_cursors,
        }

    def _find(self, database: str, arguments: Arguments) -> Document:
        namespace = namespace_of(database, arguments["find"])
        known = self._catalogue.get(namespace)
        if known is None:
            return cursor_answer(namespace, [], 0)
        projection = plain(arguments.get("projection"))
        with self._store.reading() as connection:
            numbers = Documents(connection, known).find(_query(arguments))
            cursor = Cursor(namespace, numbers, self._fetcher(known, projection))
            first = arguments.get("batchSize")
            batch = cursor.batch(FIRST_BATCH if first is None else first) if first != 0 else []
        if arguments.get("singleBatch"):
            return cursor_answer(namespace, batch, 0)
        return cursor_answer(namespace, batch, self._cursors.keep(cursor))

    def _fetcher(
        self, known: Description, projection: Document
    ) -> Callable[[Sequence[int], int], Fetched]:
        def fetch(numbers: Sequence[int], most_bytes: int) -> Fetched:
            with self._store.reading() as connection:
                documents = Documents(connection, known)
                count = fitting(documents.sizes(numbers), most_bytes)
                raw = documents.fetch(numbers[:count])
            size = sum(map(len, raw))
            if projection:
                shown = semantics.projected(map(decoded, raw), projection)
                return Fetched(list(shown), count, size)
            return Fetched([RawBSONDocument(each) for each in raw], count, size)

        return fetch

    def _get_more(self, database: str, arguments: Arguments) -> Document:
        number = int(arguments["getMore"])
        cursor, batch = self._cursors.more(number, int(arguments.get("batchSize", 0)))
        return {
            "cursor": {
                "id": Int64(number if cursor.left else 0),
                "ns": cursor.namespace,
                "nextBatch": batch,
            }
        }

    def _kill_cursors(self, database: str, arguments: Arguments) -> Document:
        asked = [int(number) for number in arguments["cursors"]]
        killed = self._cursors.close(asked)
        return {
            "cursorsKilled": [Int64(n) for n in killed],
            "cursorsNotFound": [Int64(n) for n in asked if n not in killed],
            "cursorsAlive": [],
            "cursorsUnknown": [],
        }

    def _count(self, database: str, arguments: Arguments) -> Document:
        known = self._catalogue.get(namespace_of(database, arguments["count"]))
        if known is None:
            return {"n": 0}
        with self._store.reading() as connection:
            found = Documents(connection, known).count(plain(arguments.get("query")))
        found = max(0, found - int(arguments.get("skip", 0)))
        limit = abs(int(arguments.get("limit", 0)))
        return {"n": min(found, limit) if limit else found}

    def _distinct(self, database: str, arguments: Arguments) -> Document:
        known = self._catalogue.get(namespace_of(database, arguments["distinct"]))
        if known is None:
            return {"values": []}
        path = str(arguments["key"])
        by_text: dict[str, Any] = {}
        for document in self._documents(known, Query(plain(arguments.get("query")))):
            for value in values_at(document, path):
                by_text.setdefault(repr(value), value)
        return {"values": list(by_text.values())}

    def _documents(self, known: Description, query: Query) -> Iterator[Document]:
        with self._store.reading() as connection:
            documents = Documents(connection, known)
            yield from documents.read(documents.find(query))

    def _aggregate(self, database: str, arguments: Arguments) -> Document:
        name = arguments["aggregate"]
        pipeline = [plain(stage) for stage in arguments["pipeline"]]
        namespace = namespace_of(database, name) if isinstance(name, str) else database
        query, rest = _leading(pipeline)
        known = self._catalogue.get(namespace) if isinstance(name, str) else None
        found: Iterable[Document]
        if known is not None and (counted := _counts(rest)) is not None:
            with self._store.reading() as connection:
                documents = Documents(connection, known)
                whole = not (query.skip or query.limit)
                count = documents.count(query.wanted) if whole else len(documents.find(query))
            found = [counted(count)] if count else []
        else:
            found = self._documents(known, query) if known is not None else []
            if rest and grouping.is_sums(rest[0]):
                found, rest = grouping.summed(found, rest[0]), rest[1:]
            if rest:
                found = semantics.aggregated(found, rest, lambda other: self._all(database, other))
        made = [encoded(document) for document in found]

        def fetch(numbers: Sequence[int], most_bytes: int) -> Fetched:
            count = fitting((len(made[number]) for number in numbers), most_bytes)
            raw = [made[number] for number in numbers[:count]]
            return Fetched([RawBSONDocument(each) for each in raw], count, sum(map(len, raw)))

        cursor = Cursor(namespace, range(len(made)), fetch)
        batch = cursor.batch(int(plain(arguments.get("cursor")).get("batchSize", FIRST_BATCH)))
        return cursor_answer(namespace, batch, self._cursors.keep(cursor))

    def _all(self, database: str, name: str) -> Iterable[Document]:
        known = self._catalogue.get(namespace_of(database, name))
        return self._documents(known, Query()) if known is not None else []

    def _explain(self, database: str, arguments: Arguments) -> Document:
        asked = plain(arguments["explain"])
        if "find" not in asked:
            raise CommandError(errors.COMMAND_NOT_SUPPORTED, "Only a find is explained")
        known = self._catalogue.get(namespace_of(database, asked["find"]))
        if known is None:
            return {"queryPlanner": {"winningPlan": {"stage": "EOF"}}}
        query = _query(asked)
        with self._store.reading() as connection:
            documents = Documents(connection, known)
            scans = documents.scans(query)
            numbers = documents.find(query)
            size = documents.count({}) if scans else len(numbers)
        return {
            "queryPlanner": {"winningPlan": {"stage": "COLLSCAN" if scans else "IXSCAN"}},
            "executionStats": {
                "nReturned": len(numbers),
                "totalDocsExamined": max(size, documents.examined),
            },
        }


def _query(arguments: Arguments) -> Query:
    limit = int(arguments.get("limit", 0))
    return Query(
        plain(arguments.get("filter")),
        _sort(plain(arguments.get("sort"))),
        int(arguments.get("skip", 0)),
        abs(limit),
    )


def _sort(said: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    for path, way in said.items():
        if way not in (1, -1):
            raise CommandError(errors.BAD_VALUE, f"Not a direction to sort {path} by: {way!r}")
    return tuple((path, int(way)) for path, way in said.items() if path != "$natural")


def _leading(pipeline: Sequence[Document]) -> tuple[Query, Sequence[Document]]:
    """The query that the first stages are, and the stages after them."""
    query = Query()
    stages = list(pipeline)
    order = ["$match", "$sort", "$skip", "$limit"]
    taken = 0
    for stage in stages:
        ((operator, said),) = stage.items()
        if operator not in order:
            break
        order = order[order.index(operator) + 1 :]
        query = Query(
            said if operator == "$match" else query.wanted,
            _sort(said) if operator == "$sort" else query.sort,
            int(said) if operator == "$skip" else query.skip,
            int(said) if operator == "$limit" else query.limit,
        )
        taken += 1
    return query, stages[taken:]


def _counts(stages: Sequence[Document]) -> Callable[[int], Document] | None:
    """What a pipeline that only counts makes of the number; None if it does more."""
    if len(stages) != 1:
        return None
    ((operator, said),) = stages[0].items()
    if operator == "$count":
        return lambda count: {said: count}
    if operator != "$group" or len(said) != 2 or not isinstance(said["_id"], int | None):
        return None
    ((name, expression),) = ((n, e) for n, e in said.items() if n != "_id")
    if expression != {"$sum": 1}:
        return None
    return lambda count: {"_id": said["_id"], name: count}
