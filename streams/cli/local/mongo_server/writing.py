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
        namespace = namespace_of(database, arguments["insert"])

        def insert(writer: Writer, document: RawBSONDocument, done: Document) -> None:
            writer.insert(document)
            done["n"] += 1

        return self._write(namespace, arguments, "documents", insert, {"n": 0})

    def _update(self, database: str, arguments: Arguments) -> Document:
        namespace = namespace_of(database, arguments["update"])
        upserted: list[Document] = []

        def update(writer: Writer, said: RawBSONDocument, done: Document) -> None:
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
                upserted.append({"index": done["at"], "_id": written.upserted})

        answer = self._write(namespace, arguments, "updates", update, {"n": 0, "nModified": 0})
        return {**answer, "upserted": upserted} if upserted else answer

    def _delete(self, database: str, arguments: Arguments) -> Document:
        namespace = namespace_of(database, arguments["delete"])
        if self._catalogue.get(namespace) is None:
            return {"n": 0}

        def delete(writer: Writer, said: RawBSONDocument, done: Document) -> None:
            operation = plain(said)
            done["n"] += writer.delete(operation["q"], int(operation.get("limit", 0)))

        return self._write(namespace, arguments, "deletes", delete, {"n": 0})

    def _write(
        self,
        namespace: str,
        arguments: Arguments,
        operations: str,
        write: Callable[[Writer, RawBSONDocument, Document], None],
        done: Document,
    ) -> Document:
        """Do operations in one transaction; one that fails is told, and ends an ordered batch."""
        failed: list[Document] = []
        with self._catalogue.writing() as connection:
            known = self._catalogue.draft_or_create(connection, namespace)
            writer = Writer(connection, known, self._catalogue)
            for index, operation in enumerate(arguments[operations]):
                try:
                    done["at"] = index
                    write(writer, operation, done)
                except CommandError as error:
                    failed.append({"index": index, "code": error.code, "errmsg": str(error)})
                    if arguments.get("ordered", True):
                        break
        done.pop("at", None)
        return {**done, "writeErrors": failed} if failed else done

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
