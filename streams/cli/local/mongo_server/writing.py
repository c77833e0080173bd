"""Commands that write documents: insert, update, delete, findAndModify."""

from __future__ import annotations

from collections.abc import Callable

from bson.raw_bson import RawBSONDocument

from streams.cli.local.mongo_server import semantics
from streams.cli.local.mongo_server.arguments import Arguments, Command, namespace_of, plain
from streams.cli.local.mongo_server.catalogue import Catalogue
from streams.cli.local.mongo_server.collection import Query, Writer
from streams.cli.local.mongo_server.documents import Document
from streams.cli.local.mongo_server.errors import CommandError


class Writing:
    """The commands that write documents."""

    def __init__(self, catalogue: Catalogue):
        self._catalogue = catalogue

    def commands(self) -> dict[str, Command]:
        """By name."""
        return {
            "delete": self._delete,
            "findAndModify": self._find_and_modify,
            "insert": self._insert,
            "update": self._update,
        }

    def _insert(self, database: str, arguments: Arguments) -> Document:
        done = {"n": 0}

        def insert(writer: Writer, _: int, document: RawBSONDocument) -> None:
            writer.insert(document)
            done["n"] += 1

        namespace = namespace_of(database, arguments["insert"])
        return done | self._write(namespace, arguments, "documents", insert)

    def _update(self, database: str, arguments: Arguments) -> Document:
        done = {"n": 0, "nModified": 0}
        upserted: list[Document] = []

        def update(writer: Writer, index: int, said: RawBSONDocument) -> None:
            operation = plain(said)
            written = writer.update(
                operation["q"],
                operation["u"],
                multi=bool(operation.get("multi")),
                upsert=bool(operation.get("upsert")),
                array_filters=operation.get("arrayFilters"),
            )
            done["n"] += written.matched + written.made
            done["nModified"] += written.modified
            if written.made:
                upserted.append({"index": index, "_id": written.upserted})

        namespace = namespace_of(database, arguments["update"])
        failed = self._write(namespace, arguments, "updates", update)
        return done | failed | ({"upserted": upserted} if upserted else {})

    def _delete(self, database: str, arguments: Arguments) -> Document:
        done = {"n": 0}
        namespace = namespace_of(database, arguments["delete"])
        if self._catalogue.get(namespace) is None:
            return done

        def delete(writer: Writer, _: int, said: RawBSONDocument) -> None:
            operation = plain(said)
            done["n"] += writer.delete(operation["q"], int(operation.get("limit", 0)))

        return done | self._write(namespace, arguments, "deletes", delete)

    def _write(
        self,
        namespace: str,
        arguments: Arguments,
        operations: str,
        write: Callable[[Writer, int, RawBSONDocument], None],
    ) -> Document:
        """Do operations in one transaction, each with its index; give what the answer says of
        those that failed. One that fails ends an ordered batch."""
        failed: list[Document] = []
        with self._catalogue.writing() as connection:
            known = self._catalogue.draft_or_create(connection, namespace)
            writer = Writer(connection, known, self._catalogue)
            for index, operation in enumerate(arguments[operations]):
                try:
                    write(writer, index, operation)
                except CommandError as error:
                    failed.append({"index": index, "code": error.code, "errmsg": str(error)})
                    if arguments.get("ordered", True):
                        break
        return {"writeErrors": failed} if failed else {}

    def _find_and_modify(self, database: str, arguments: Arguments) -> Document:
        namespace = namespace_of(database, next(iter(arguments.values())))
        asked = {name: plain(value) for name, value in arguments.items()}
        projection = asked.get("fields") or {}
        with self._catalogue.writing() as connection:
            known = self._catalogue.draft_or_create(connection, namespace)
            writer = Writer(connection, known, self._catalogue)
            wanted = asked.get("query") or {}
            sort = tuple((asked.get("sort") or {}).items())
            numbers = writer.find(Query(wanted, sort, limit=1))
            found = next(writer.read(numbers), None)
            by = {"_id": found["_id"]} if found is not None else wanted
            last: Document = {"n": int(found is not None)}
            if asked.get("remove"):
                writer.delete(by, 1)
            else:
                written = writer.update(
                    by,
                    asked["update"],
                    upsert=bool(asked.get("upsert")),
                    array_filters=asked.get("arrayFilters"),
                )
                last["updatedExisting"] = found is not None
                if written.made:
                    last |= {"n": 1, "upserted": written.upserted}
                if asked.get("new"):
                    identity = written.upserted if written.made else by.get("_id")
                    found = next(writer.read(writer.find(Query({"_id": identity}))), None)
        shown = next(semantics.projected([found], projection)) if found and projection else found
        return {"lastErrorObject": last, "value": shown}
