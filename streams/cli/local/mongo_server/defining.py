"""Commands about collections, indexes and databases."""

from __future__ import annotations

from bson import Int64

from streams.cli.local.mongo_server import errors, semantics
from streams.cli.local.mongo_server.arguments import (
    Arguments,
    Command,
    cursor_answer,
    namespace_of,
    plain,
)
from streams.cli.local.mongo_server.catalogue import Catalogue, Description, described
from streams.cli.local.mongo_server.documents import Document
from streams.cli.local.mongo_server.errors import CommandError
from streams.cli.local.mongo_server.store import Store


class Defining:
    """The commands about what there is."""

    def __init__(self, store: Store, catalogue: Catalogue):
        self._store = store
        self._catalogue = catalogue

    def commands(self) -> dict[str, Command]:
        """By name."""
        return {
            "create": self._create,
            "createIndexes": self._create_indexes,
            "dbStats": self._database_statistics,
            "drop": self._drop,
            "dropDatabase": self._drop_database,
            "dropIndexes": self._drop_indexes,
            "listCollections": self._list_collections,
            "listDatabases": self._list_databases,
            "listIndexes": self._list_indexes,
            "renameCollection": self._rename,
        }

    def _create(self, database: str, arguments: Arguments) -> Document:
        with self._catalogue.writing() as connection:
            self._catalogue.draft_or_create(connection, namespace_of(database, arguments["create"]))
        return {}

    def _drop(self, database: str, arguments: Arguments) -> Document:
        namespace = namespace_of(database, arguments["drop"])
        with self._catalogue.writing() as connection:
            if not self._catalogue.drop(connection, namespace):
                raise CommandError(errors.NAMESPACE_NOT_FOUND, "ns not found")
        return {"ns": namespace}

    def _drop_database(self, database: str, arguments: Arguments) -> Document:
        with self._catalogue.writing() as connection:
            for namespace in self._namespaces(database):
                self._catalogue.drop(connection, namespace)
        return {"dropped": database}

    def _rename(self, database: str, arguments: Arguments) -> Document:
        source, target = str(arguments["renameCollection"]), str(arguments["to"])
        with self._catalogue.writing() as connection:
            known = self._catalogue.draft(source)
            if known is None:
                raise CommandError(errors.NAMESPACE_NOT_FOUND, "Source collection does not exist")
            if self._catalogue.draft(target) is not None and not arguments.get("dropTarget"):
                raise CommandError(errors.NAMESPACE_EXISTS, "target namespace exists")
            self._catalogue.drop(connection, target)
            self._catalogue.rename(connection, known, target)
        return {}

    def _create_indexes(self, database: str, arguments: Arguments) -> Document:
        namespace = namespace_of(database, arguments["createIndexes"])
        with self._catalogue.writing() as connection:
            known = self._catalogue.draft_or_create(connection, namespace)
            before = len(known.indexes)
            for specification in arguments["indexes"]:
                self._catalogue.add_index(connection, known, plain(specification))
            after = len(known.indexes)
        return {"numIndexesBefore": before, "numIndexesAfter": after}

    def _drop_indexes(self, database: str, arguments: Arguments) -> Document:
        namespace = namespace_of(database, arguments["dropIndexes"])
        before = len(self._existing(namespace).indexes)
        named = arguments["index"]
        with self._catalogue.writing() as connection:
            known = self._catalogue.draft_or_create(connection, namespace)
            names = [named] if isinstance(named, str) else list(named)
            if named == "*":
                names = [spec["name"] for spec in described(known.indexes)[1:]]
            for name in names:
                self._catalogue.drop_index(connection, known, name)
        return {"nIndexesWas": before}

    def _list_indexes(self, database: str, arguments: Arguments) -> Document:
        namespace = namespace_of(database, arguments["listIndexes"])
        return cursor_answer(namespace, list(described(self._existing(namespace).indexes)), 0)

    def _list_collections(self, database: str, arguments: Arguments) -> Document:
        matches = semantics.matcher(plain(arguments.get("filter")))
        found = [
            {"name": namespace.partition(".")[2], "type": "collection", "options": {}}
            for namespace in self._namespaces(database)
        ]
        return cursor_answer(
            f"{database}.$cmd.listCollections", [d for d in found if matches(d)], 0
        )

    def _list_databases(self, database: str, arguments: Arguments) -> Document:
        names = dict.fromkeys(n.partition(".")[0] for n in self._catalogue.namespaces())
        found = [{"name": name, "empty": False} for name in names]
        return {"databases": found, "totalSize": Int64(self._store.size())}

    def _namespaces(self, database: str) -> list[str]:
        return [n for n in self._catalogue.namespaces() if n.startswith(f"{database}.")]

    def _existing(self, namespace: str) -> Description:
        known = self._catalogue.get(namespace)
        if known is None:
            raise CommandError(errors.NAMESPACE_NOT_FOUND, f"ns does not exist: {namespace}")
        return known

    def _database_statistics(self, database: str, arguments: Arguments) -> Document:
        names = self._namespaces(database)
        return {"db": database, "collections": len(names), "fsUsedSize": Int64(self._store.size())}
