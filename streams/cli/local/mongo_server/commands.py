"""The commands of MongoDB that are understood, and what the server says of itself."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from streams.cli.local.mongo_server import errors
from streams.cli.local.mongo_server.arguments import Arguments
from streams.cli.local.mongo_server.catalogue import Catalogue
from streams.cli.local.mongo_server.defining import Defining
from streams.cli.local.mongo_server.documents import LARGEST, Document
from streams.cli.local.mongo_server.errors import CommandError
from streams.cli.local.mongo_server.reading import Reading
from streams.cli.local.mongo_server.store import Store
from streams.cli.local.mongo_server.wire import LARGEST as LARGEST_MESSAGE
from streams.cli.local.mongo_server.wire import Message
from streams.cli.local.mongo_server.writing import Writing

VERSION = "7.0.0"
"""Of the MongoDB whose clients are understood."""

WIRE_VERSION = 21
MOST_WRITES = 100_000


class Commands:
    """The commands, on one file."""

    def __init__(self, store: Store):
        catalogue = Catalogue(store)
        known = {
            **Reading(store, catalogue).commands(),
            **Writing(catalogue).commands(),
            **Defining(store, catalogue).commands(),
            "buildInfo": self._build_info,
            "endSessions": self._nothing,
            "hello": self._hello,
            "isMaster": self._hello,
            "ping": self._nothing,
            "serverStatus": self._server_status,
        }
        self._known = {name.lower(): command for name, command in known.items()}

    def run(self, message: Message) -> Document:
        """Do what a message says; give the answer to it."""
        command = self._known.get(message.name.lower())
        try:
            if command is None:
                raise CommandError(errors.COMMAND_NOT_FOUND, f"no such command: '{message.name}'")
            return {**command(message.database, message.arguments), "ok": 1.0}
        except CommandError as error:
            return {"ok": 0.0, "errmsg": str(error), "code": error.code}

    def _hello(self, database: str, arguments: Arguments) -> Document:
        return {
            "helloOk": True,
            "ismaster": True,
            "isWritablePrimary": True,
            "maxBsonObjectSize": LARGEST,
            "maxMessageSizeBytes": LARGEST_MESSAGE,
            "maxWriteBatchSize": MOST_WRITES,
            "localTime": datetime.now(UTC),
            "minWireVersion": 0,
            "maxWireVersion": WIRE_VERSION,
            "readOnly": False,
        }

    def _build_info(self, database: str, arguments: Arguments) -> Document:
        version = [int(part) for part in VERSION.split(".")]
        return {
            "version": VERSION,
            "versionArray": [*version, 0],
            "maxBsonObjectSize": LARGEST,
            "storageEngine": f"SQLite {sqlite3.sqlite_version}",
        }

    def _server_status(self, database: str, arguments: Arguments) -> Document:
        return {"version": VERSION, "process": "podstream", "localTime": datetime.now(UTC)}

    def _nothing(self, database: str, arguments: Arguments) -> Document:
        return {}
