"""The embedded MongoDB server: mongo-java-server over an H2 file, started through Py4J.

`python -m streams.cli.local.mongo --port N --path FILE` runs it in the foreground until SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JError
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from jobs.spark_jars import classpath
from streams.cli.local.child import running_child
from streams.cli.local.ports import free_ports
from topology.java import require_java
from topology.settings import LOOPBACK

STOP_TIMEOUT_S = 20.0
RETENTION_MS = 600_000
"""How long the store keeps data from when it was written: a scan under writes still finds its
version, which may be overwritten as soon as it is that old. The file grows by what is written
meanwhile."""

HEAP_MB = 384
"""A query gathers its documents whole: some hundred thousand minutes of a few episodes."""

CONNECTION_THREADS = 64
"""A thread serves several connections when there are more: one then waits for another's query, and
a client that waits five seconds for its first answer takes the server for dead."""


class MongoError(RuntimeError):
    """The server did not come up; the message says where to look."""


def mongo_command(home: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Arguments and extra environment of a server whose data lies in ``home/mongo``."""
    folder = home / "mongo"
    folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "streams.cli.local.mongo"]
    return [*argv, "--port", str(port), "--path", str(folder / "podstream.h2")], {}


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


def serve(path: Path, port: int) -> int:
    """Run the server in the foreground until SIGTERM or SIGINT; give the exit status."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # The JVM watches its standard input, which we hold: it ends when this process does. A process
    # group of its own keeps the terminal's Ctrl-C away from it, so that we can close the store.
    gateway_port, token, jvm = launch_gateway(
        classpath=classpath("mongo"),
        javaopts=[
            f"-Xmx{HEAP_MB}m",
            "-XX:+UseSerialGC",
            f"-Dio.netty.eventLoopThreads={CONNECTION_THREADS}",
            "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        ],
        java_path=require_java(),
        die_on_exit=True,
        enable_auth=True,
        create_new_process_group=True,
        return_proc=True,
        # copies, because Py4J closes what it was given
        redirect_stdout=os.fdopen(os.dup(1), "w"),
        redirect_stderr=os.fdopen(os.dup(2), "w"),
    )
    gateway = JavaGateway(gateway_parameters=GatewayParameters(port=gateway_port, auth_token=token))
    builder = gateway.jvm.org.h2.mvstore.MVStore.Builder()
    # A page of documents is rewritten for each of them: compressed it is a fifth of its size.
    store = builder.fileName(str(path)).compress().open()
    store.setRetentionTime(RETENTION_MS)
    backend = gateway.jvm.de.bwaldvogel.mongo.backend.h2.H2Backend(store)
    server = gateway.jvm.de.bwaldvogel.mongo.MongoServer(backend)
    server.bind(LOOPBACK, port)
    print(f"MongoDB protocol on {LOOPBACK}:{port}, data in {path}", flush=True)
    try:
        while not stop.wait(0.5):
            if jvm.poll() is not None:
                print(f"The JVM ended with code {jvm.returncode}", file=sys.stderr, flush=True)
                return 1
    finally:
        with contextlib.suppress(Py4JError, OSError):
            server.shutdownNow()
        with contextlib.suppress(Py4JError, OSError):
            gateway.shutdown()
        jvm.stdin.close()
        jvm.wait(STOP_TIMEOUT_S)
    print("Stopped", flush=True)
    return 0


def main() -> None:
    """Entry point of the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", type=Path, required=True, help="the H2 file")
    arguments = parser.parse_args()
    sys.exit(serve(arguments.path, arguments.port))


if __name__ == "__main__":
    main()
