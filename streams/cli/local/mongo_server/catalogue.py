"""Which collections there are, and their indexes: kept in the file, and in memory while it is open.

Keys of what is indexed lie in columns of the collection's table, one for each field.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import bson

from streams.cli.local.mongo_server import errors
from streams.cli.local.mongo_server.documents import Document, decoded, keyed
from streams.cli.local.mongo_server.errors import CommandError
from streams.cli.local.mongo_server.store import Store

PRIMARY = "_id_"
LONGEST_NAMESPACE = 255

_SCHEMA = """
CREATE TABLE IF NOT EXISTS collections (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS fields (
    collection INTEGER NOT NULL,
    path TEXT NOT NULL,
    column_name TEXT NOT NULL,
    keyless INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (collection, path)
);
CREATE TABLE IF NOT EXISTS indexes (
    collection INTEGER NOT NULL,
    name TEXT NOT NULL,
    specification BLOB NOT NULL,
    PRIMARY KEY (collection, name)
);
"""


@dataclass
class Description:
    """What is known of a collection.

    ``fields``: the column with the keys of each indexed field. ``keyless``: those of which some
    document has a value without a key, so that the column does not tell all.
    """

    number: int
    namespace: str
    fields: dict[str, str] = field(default_factory=dict)
    keyless: set[str] = field(default_factory=set)
    indexes: dict[str, Document] = field(default_factory=dict)

    @property
    def table(self) -> str:
        """The name of the table with the documents."""
        return f"documents_{self.number}"

    def columns(self) -> dict[str, str]:
        """The column of each field that may be asked by key."""
        known = {path: column for path, column in self.fields.items() if path not in self.keyless}
        return {"_id": "id", **known}


class Catalogue:
    """The collections of all databases, by namespace (``database.collection``).

    Who writes changes drafts, which take the places of what readers see once they are committed.
    """

    def __init__(self, store: Store):
        self._store = store
        self._known: dict[str, Description] = {}
        self._drafts: dict[str, Description | None] = {}
        with store.writing() as connection:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            self._load(connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The store's connection for one transaction, in which collections may change."""
        with self._store.writing() as connection:
            self._drafts = {}
            yield connection
            drafts = self._drafts
        # One step, so that nobody sees a half of it.
        self._known = {
            namespace: known
            for namespace, known in {**self._known, **drafts}.items()
            if known is not None
        }

    def _load(self, connection: sqlite3.Connection) -> None:
        by_number: dict[int, Description] = {}
        for number, namespace in connection.execute("SELECT number, namespace FROM collections"):
            by_number[number] = self._known[namespace] = Description(number, namespace)
        asked = connection.execute("SELECT collection, path, column_name, keyless FROM fields")
        for number, path, column, keyless in asked:
            by_number[number].fields[path] = column
            if keyless:
                by_number[number].keyless.add(path)
        asked = connection.execute("SELECT collection, name, specification FROM indexes")
        for number, name, specification in asked:
            by_number[number].indexes[name] = decoded(specification)

    def namespaces(self) -> list[str]:
        """Of all collections, sorted."""
        return sorted(self._known)

    def get(self, namespace: str) -> Description | None:
        """What readers know of a collection; None if there is none."""
        return self._known.get(namespace)

    def draft(self, namespace: str) -> Description | None:
        """What is known of a collection, to be changed; None if there is none."""
        if namespace not in self._drafts and (known := self._known.get(namespace)) is not None:
            self._drafts[namespace] = replace(
                known,
                fields=dict(known.fields),
                keyless=set(known.keyless),
                indexes=dict(known.indexes),
            )
        return self._drafts.get(namespace)

    def draft_or_create(self, connection: sqlite3.Connection, namespace: str) -> Description:
        """The same, after making the collection if need be."""
        if (known := self.draft(namespace)) is not None:
            return known
        database, _, name = namespace.partition(".")
        if not database or not name or "\0" in namespace or len(namespace) > LONGEST_NAMESPACE:
            raise CommandError(errors.INVALID_NAMESPACE, f"Invalid namespace: {namespace!r}")
        inserted = connection.execute(
            "INSERT INTO collections (namespace) VALUES (?)", (namespace,)
        )
        assert inserted.lastrowid is not None  # noqa: S101  for the type checker: just inserted
        made = Description(inserted.lastrowid, namespace)
        # AUTOINCREMENT: no row takes the number of one that is gone, which a cursor may remember.
        connection.execute(
            f"CREATE TABLE {made.table} (number INTEGER PRIMARY KEY AUTOINCREMENT,"
            " id BLOB NOT NULL UNIQUE, document BLOB NOT NULL)"
        )
        self._keep_index(connection, made, {"v": 2, "key": {"_id": 1}, "name": PRIMARY})
        self._drafts[namespace] = made
        return made

    def drop(self, connection: sqlite3.Connection, namespace: str) -> bool:
        """Remove a collection; whether there was one."""
        gone = self.draft(namespace)
        if gone is None:
            return False
        connection.execute(f"DROP TABLE {gone.table}")
        for table in ("fields", "indexes"):
            connection.execute(
                f"DELETE FROM {table} WHERE collection = ?",  # noqa: S608  names of ours
                (gone.number,),
            )
        connection.execute("DELETE FROM collections WHERE number = ?", (gone.number,))
        self._drafts[namespace] = None
        return True

    def rename(self, connection: sqlite3.Connection, known: Description, namespace: str) -> None:
        """Give a collection (a draft) another name, which nothing has."""
        connection.execute(
            "UPDATE collections SET namespace = ? WHERE number = ?", (namespace, known.number)
        )
        self._drafts[known.namespace] = None
        self._drafts[namespace] = replace(known, namespace=namespace)

    def add_index(
        self, connection: sqlite3.Connection, known: Description, specification: Document
    ) -> bool:
        """Make an index of a collection (a draft); False if it is there already."""
        name, wanted = specification["name"], specification["key"]
        if (there := known.indexes.get(name)) is not None:
            if list(there["key"].items()) != list(wanted.items()):
                raise CommandError(
                    errors.CANNOT_CREATE_INDEX, f"Index {name} exists with other fields"
                )
            return False
        if any(direction not in (1, -1) for direction in wanted.values()):
            raise CommandError(
                errors.CANNOT_CREATE_INDEX, f"Index {name} is of a kind that is not supported"
            )
        unique = bool(specification.get("unique"))
        for path in wanted:
            self._add_field(connection, known, path)
        if unique and known.keyless & set(wanted):
            raise CommandError(
                errors.CANNOT_CREATE_INDEX, f"Index {name}: arrays cannot be unique here"
            )
        columns = {**known.fields, "_id": "id"}
        terms = ", ".join(
            f"{columns[path]} {'DESC' if way < 0 else 'ASC'}" for path, way in wanted.items()
        )
        try:
            connection.execute(
                f"CREATE {'UNIQUE ' if unique else ''}INDEX {self._index(known, name)}"
                f" ON {known.table} ({terms})"
            )
        except sqlite3.IntegrityError as error:
            raise CommandError(errors.DUPLICATE_KEY, f"Index {name}: {error}") from error
        self._keep_index(connection, known, {"v": 2, **specification})
        return True

    def drop_index(self, connection: sqlite3.Connection, known: Description, name: str) -> None:
        """Remove an index; its fields keep their keys."""
        if name not in known.indexes or name == PRIMARY:
            raise CommandError(errors.INDEX_NOT_FOUND, f"index not found with name [{name}]")
        connection.execute(f"DROP INDEX {self._index(known, name)}")
        connection.execute(
            "DELETE FROM indexes WHERE collection = ? AND name = ?", (known.number, name)
        )
        del known.indexes[name]

    def mark_keyless(self, connection: sqlite3.Connection, known: Description, path: str) -> None:
        """Note that some document has a value without a key."""
        if path in known.keyless:
            return
        if any(spec.get("unique") and path in spec["key"] for spec in known.indexes.values()):
            raise CommandError(errors.BAD_VALUE, f"{path}: arrays cannot be unique here")
        connection.execute(
            "UPDATE fields SET keyless = 1 WHERE collection = ? AND path = ?", (known.number, path)
        )
        known.keyless.add(path)
        # At once: until this is committed, readers look at more documents than they have to.
        if (seen := self._known.get(known.namespace)) is not None:
            seen.keyless.add(path)

    @staticmethod
    def _index(known: Description, name: str) -> str:
        return f'"index {known.number} {name.encode().hex()}"'

    def _keep_index(
        self, connection: sqlite3.Connection, known: Description, specification: Document
    ) -> None:
        connection.execute(
            "INSERT INTO indexes VALUES (?, ?, ?)",
            (known.number, specification["name"], bson.encode(specification)),
        )
        known.indexes[specification["name"]] = specification

    def _add_field(self, connection: sqlite3.Connection, known: Description, path: str) -> None:
        """Give a field a column, with the keys of what is there."""
        if path == "_id" or path in known.fields:
            return
        column = f"key_{len(known.fields)}"
        connection.execute(f"ALTER TABLE {known.table} ADD COLUMN {column} BLOB")
        connection.execute(
            "INSERT INTO fields (collection, path, column_name) VALUES (?, ?, ?)",
            (known.number, path, column),
        )
        known.fields[path] = column
        rows = connection.execute(
            f"SELECT number, document FROM {known.table}"  # noqa: S608  names of ours
        )
        changes: list[tuple[bytes | None, int]] = []
        for number, raw in rows.fetchall():
            made = keyed(decoded(raw), [path])[path]
            if made is None:
                self.mark_keyless(connection, known, path)
            changes.append((made, number))
        connection.executemany(
            f"UPDATE {known.table} SET {column} = ? WHERE number = ?",  # noqa: S608
            changes,
        )


def described(indexes: Mapping[str, Document]) -> Sequence[Document]:
    """The specifications of indexes, that of `_id` first."""
    return sorted(indexes.values(), key=lambda specification: specification["name"] != PRIMARY)
