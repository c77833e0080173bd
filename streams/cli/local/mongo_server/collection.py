"""The documents of one collection: found, written and removed in a transaction of the caller."""

from __future__ import annotations

import heapq
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from bson import ObjectId

from streams.cli.local.mongo_server import errors, keys, planning, semantics
from streams.cli.local.mongo_server.catalogue import Catalogue, Description
from streams.cli.local.mongo_server.documents import Document, decoded, encoded, keyed
from streams.cli.local.mongo_server.errors import CommandError

FETCHED_AT_ONCE = 200
"""Documents in memory at a time, while they are looked through."""


@dataclass(frozen=True)
class Query:
    """What a client asks for. ``sort``: fields with 1 or -1; ``limit`` 0: all."""

    wanted: Document = field(default_factory=dict)
    sort: Sequence[tuple[str, int]] = ()
    skip: int = 0
    limit: int = 0

    @property
    def last(self) -> int | None:
        """How many documents there are to the end of what is asked for; None: all."""
        return self.skip + self.limit if self.limit else None


class Documents:
    """The documents of a collection, by their numbers (rows), in a transaction."""

    def __init__(self, connection: sqlite3.Connection, known: Description):
        self._connection = connection
        self._known = known
        self._table = known.table
        self.examined = 0
        """Documents that were looked at one by one."""

    # -- reading -------------------------------------------------------------------------------

    def find(self, query: Query) -> array[int]:
        """The numbers of the documents that match, in the order asked for."""
        plan, order = self._planned(query)
        if plan.exact and order is not None:
            window = f" LIMIT {query.limit or -1} OFFSET {query.skip}"
            rows = self._select("number", plan, order + window)
            return array("q", (number for (number,) in rows))
        if order is not None:
            found = (number for number, _ in self._matching(query.wanted, plan, order))
            return array("q", islice(found, query.skip, query.last))
        return array("q", self._sorted(query, plan))

    def count(self, wanted: Document) -> int:
        """How many documents match."""
        plan = planning.plan(wanted, self._known.columns())
        if plan.exact:
            ((count,),) = self._select("COUNT(*)", plan)
            return int(count)
        return sum(1 for _ in self._matching(wanted, plan, ""))

    def fetch(self, numbers: Sequence[int]) -> list[bytes]:
        """Documents by number, in this order; those that are gone are left out."""
        found: dict[int, bytes] = {}
        for start in range(0, len(numbers), FETCHED_AT_ONCE):
            some = numbers[start : start + FETCHED_AT_ONCE]
            found.update(
                self._connection.execute(
                    f"SELECT number, document FROM {self._table}"  # noqa: S608  names of ours
                    f" WHERE number IN ({', '.join('?' * len(some))})",
                    some,
                )
            )
        return [found[number] for number in numbers if number in found]

    def sizes(self, numbers: Sequence[int]) -> list[int]:
        """The bytes of documents by number, in this order; 0 for those that are gone."""
        sizes: dict[int, int] = dict(
            self._connection.execute(
                f"SELECT number, LENGTH(document) FROM {self._table}"  # noqa: S608  names of ours
                f" WHERE number IN ({', '.join('?' * len(numbers))})",
                numbers,
            )
        )
        return [sizes.get(number, 0) for number in numbers]

    def read(self, numbers: Sequence[int]) -> Iterator[Document]:
        """The same, some at a time, decoded."""
        for start in range(0, len(numbers), FETCHED_AT_ONCE):
            yield from map(decoded, self.fetch(numbers[start : start + FETCHED_AT_ONCE]))

    def scans(self, query: Query) -> bool:
        """Whether the whole table is read to find what is asked for, or to sort it."""
        plan, order = self._planned(query)
        if order is None:
            return True
        steps = self._connection.execute(
            f"EXPLAIN QUERY PLAN SELECT number FROM {self._table}{plan.where}{order}",  # noqa: S608
            plan.parameters,
        ).fetchall()
        return any(
            "USE TEMP B-TREE" in what or (what.startswith("SCAN") and not query.limit)
            for *_, what in steps
        ) and bool(query.wanted or query.sort)

    def _planned(self, query: Query) -> tuple[planning.Plan, str | None]:
        """Which rows may match, and the ORDER BY clause; None if SQL cannot sort them."""
        columns = self._known.columns()
        order = planning.order(query.sort, columns) if query.sort else ""
        return planning.plan(query.wanted, columns), order

    def _select(self, what: str, plan: planning.Plan, rest: str = "") -> Iterator[tuple[Any, ...]]:
        return self._connection.execute(
            f"SELECT {what} FROM {self._table}{plan.where}{rest}",  # noqa: S608  values are bound
            plan.parameters,
        )

    def _matching(
        self, wanted: Document, plan: planning.Plan, order: str
    ) -> Iterator[tuple[int, Document]]:
        matches = semantics.matcher(wanted)
        for number, raw in self._select("number, document", plan, order):
            self.examined += 1
            document = decoded(raw)
            if plan.exact or matches(document):
                yield number, document

    def _sorted(self, query: Query, plan: planning.Plan) -> list[int]:
        """By fields without keys: what they are sorted by is kept, not the documents."""
        asked = [(semantics.sort_keys(path), way) for path, way in query.sort]
        found = (
            ([key(document) for key, _ in asked], number)
            for number, document in self._matching(query.wanted, plan, "")
        )
        if query.last is not None and len(asked) == 1:
            least = heapq.nlargest if asked[0][1] < 0 else heapq.nsmallest
            entries = least(query.last, found, key=lambda entry: entry[0][0])
        else:
            entries = list(found)
            for position, (_, way) in reversed(list(enumerate(asked))):
                entries.sort(key=lambda entry: entry[0][position], reverse=way < 0)
        return [number for _, number in entries[query.skip : query.last]]


@dataclass
class Written:
    """What an update did: how many it found and changed, and the id of what it made."""

    matched: int = 0
    modified: int = 0
    upserted: Any = None
    made: bool = False


class Writer(Documents):
    """The same, to be written to; the transaction must be one that writes."""

    def __init__(self, connection: sqlite3.Connection, known: Description, catalogue: Catalogue):
        super().__init__(connection, known)
        self._catalogue = catalogue

    def insert(self, document: Mapping[str, Any]) -> Any:
        """Store a new document; give its `_id`, which is made if it has none."""
        raw = encoded(document)
        whole = decoded(raw)
        if next(iter(whole), None) != "_id":  # stored first, as MongoDB does
            identity = whole.pop("_id") if "_id" in whole else ObjectId()
            whole = {"_id": identity, **whole}
            raw = encoded(whole)
        values = self._keys(whole)
        marks = ", ".join("?" * (len(values) + 2))
        names = ", ".join(["id", "document", *values])
        self._execute(
            f"INSERT INTO {self._table} ({names}) VALUES ({marks})",  # noqa: S608  names of ours
            [self._id_key(whole), raw, *values.values()],
            whole,
        )
        return whole["_id"]

    def update(
        self,
        wanted: Document,
        change: Document | Sequence[Document],
        *,
        multi: bool = False,
        upsert: bool = False,
        array_filters: Sequence[Document] | None = None,
    ) -> Written:
        """Replace or change the documents that match: the first one, or all of them."""
        if not isinstance(change, Mapping):
            raise CommandError(errors.COMMAND_NOT_SUPPORTED, "Updates by pipeline")
        operators = next(iter(change), "").startswith("$")
        if multi and not operators:
            raise CommandError(errors.FAILED_TO_PARSE, "A multi-update needs operators")
        numbers = self.find(Query(wanted, limit=0 if multi else 1))
        if not numbers:
            return self._upsert(wanted, change, operators) if upsert else Written()
        done = Written()
        for number in numbers:
            for raw in self.fetch([number]):
                before = decoded(raw)
                if operators:
                    after = semantics.updated(before, wanted, change, array_filters)
                else:
                    after = {"_id": before["_id"], **change}
                done.matched += 1
                done.modified += self._replace(number, raw, before, after)
        return done

    def delete(self, wanted: Document, limit: int = 0) -> int:
        """Remove the documents that match, at most ``limit`` if that is not 0."""
        numbers = self.find(Query(wanted, limit=limit))
        self._connection.executemany(
            f"DELETE FROM {self._table} WHERE number = ?",  # noqa: S608  names of ours
            ((number,) for number in numbers),
        )
        return len(numbers)

    def _upsert(self, wanted: Document, change: Document, operators: bool) -> Written:
        if operators:
            made = semantics.upserted(wanted, change)
        else:
            identity = wanted.get("_id")
            if isinstance(identity, Mapping) and any(n.startswith("$") for n in identity):
                identity = identity.get("$eq")
            made = {"_id": change.get("_id", identity), **change}
            if made["_id"] is None and "_id" not in change and "_id" not in wanted:
                made["_id"] = ObjectId()
        return Written(upserted=self.insert(made), made=True)

    def _replace(self, number: int, raw: bytes, before: Document, after: Document) -> bool:
        """Store a document in the place of another; whether it is not the same."""
        if self._id_key(after) != self._id_key(before):
            raise CommandError(errors.IMMUTABLE_FIELD, "The (immutable) field '_id' was altered")
        changed = encoded(after)
        if changed == raw:
            return False
        values = self._keys(after)
        assigned = ", ".join(f"{column} = ?" for column in ("document", *values))
        self._execute(
            f"UPDATE {self._table} SET {assigned} WHERE number = ?",  # noqa: S608  names of ours
            [changed, *values.values(), number],
            after,
        )
        return True

    def _keys(self, document: Document) -> dict[str, bytes | None]:
        """What the columns of indexed fields hold, by column."""
        fields = self._known.fields
        found = keyed(document, fields)
        for path, made in found.items():
            if made is None:
                self._catalogue.mark_keyless(self._connection, self._known, path)
        return {fields[path]: made for path, made in found.items()}

    def _execute(self, statement: str, parameters: Iterable[Any], document: Document) -> None:
        try:
            self._connection.execute(statement, tuple(parameters))
        except sqlite3.IntegrityError as error:
            raise CommandError(
                errors.DUPLICATE_KEY,
                f"E11000 duplicate key error collection: {self._known.namespace} "
                f"dup key: {{ _id: {document['_id']!r} }}",
            ) from error

    @staticmethod
    def _id_key(document: Document) -> bytes:
        try:
            return keys.id_key(document["_id"])
        except keys.NoKeyError as error:
            raise CommandError(errors.BAD_VALUE, f"Not an '_id': {error}") from error
