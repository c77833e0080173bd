"""The embedded MongoDB server as a process of an instance: how it is started and waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from streams.cli.local.child import running_child
from streams.cli.local.ports import free_ports
from topology.settings import LOOPBACK

STOP_TIMEOUT_S = 20.0
DATA_FILE = "documents.sqlite"


class MongoError(RuntimeError):
    """The server did not come up; the message says where to look."""


def mongo_command(home: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Arguments and extra environment of a server whose data lies in ``home/mongo``."""
    folder = home / "mongo"
    folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "streams.cli.local.mongo_server.server"]
    return [*argv, "--port", str(port), "--path", str(folder / DATA_FILE)], {}


def wait_for_mongo(uri: str, timeout_s: float = 60.0) -> None:
    """Return once a server answers at ``uri``. Raises MongoError after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    client: MongoClient[dict[str, Any]] = MongoClient(
        uri, serverSelectionTimeoutMS=500, connectTimeoutMS=500
    )
    with client:
        while time.monotonic() < deadline:
            try:
                client.admin.command("ping")
                return
            except PyMongoError:
                time.sleep(0.1)
    # the URI may hold a password: say the address only
    raise MongoError(f"MongoDB did not answer within {timeout_s:.0f} s: see logs/mongo.log")


@contextmanager
def running_mongo(home: Path, port: int | None = None) -> Iterator[str]:
    """A server for as long as the block lasts; gives its URI. For tests.

    Its log is ``home/logs/mongo.log``.
    """
    port = port or free_ports(1)[0]
    argv, environment = mongo_command(home, port)
    with running_child(argv, environment, home / "logs" / "mongo.log", STOP_TIMEOUT_S):
        uri = f"mongodb://{LOOPBACK}:{port}"
        wait_for_mongo(uri)
        yield uri
