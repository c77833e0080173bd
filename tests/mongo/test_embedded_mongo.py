"""The embedded MongoDB server: durable, and never without its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient, ReplaceOne

from streams.cli.local.mongo import MongoError, mongo_command, running_mongo, wait_for_mongo
from streams.cli.local.ports import free_ports, is_free
from topology.settings import LOOPBACK

pytestmark = pytest.mark.mongo


def _started(home: Path) -> tuple[subprocess.Popen[Any], str, int]:
    (port,) = free_ports(1)
    argv, extra = mongo_command(home, port)
    process = subprocess.Popen(argv, env={**os.environ, **extra}, stdout=sys.stderr)
    uri = f"mongodb://{LOOPBACK}:{port}"
    wait_for_mongo(uri)
    return process, uri, port


def _write(uri: str, count: int) -> None:
    with MongoClient(uri) as client:
        operations = [ReplaceOne({"_id": n}, {"n": n}, upsert=True) for n in range(count)]
        client.test.kept.bulk_write(operations)


def _count(uri: str) -> int:
    with MongoClient(uri) as client:
        return client.test.kept.count_documents({})


def test_a_clean_stop_keeps_everything(tmp_path: Path) -> None:
    with running_mongo(tmp_path) as uri:
        _write(uri, 200)
    with running_mongo(tmp_path) as uri:
        assert _count(uri) == 200
    assert "Traceback" not in (tmp_path / "logs" / "mongo.log").read_text()


def test_kill_9_takes_the_jvm_along_and_loses_at_most_the_last_moments(tmp_path: Path) -> None:
    process, uri, port = _started(tmp_path)
    try:
        _write(uri, 200)
        time.sleep(2.5)  # H2 writes what was committed to its file about once a second
        (jvm,) = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        jvm.wait(10)
        assert is_free(port)
    finally:
        process.kill()
        process.wait(10)
    with running_mongo(tmp_path) as uri:
        assert _count(uri) == 200


def test_a_dead_jvm_ends_the_server_so_that_it_is_restarted(tmp_path: Path) -> None:
    process, _, _ = _started(tmp_path)
    try:
        (jvm,) = psutil.Process(process.pid).children(recursive=True)
        jvm.kill()
        assert process.wait(15) == 1
    finally:
        process.kill()
        process.wait(10)


def test_a_connection_does_not_wait_for_the_queries_of_others(tmp_path: Path) -> None:
    process, uri, _ = _started(tmp_path)
    # Each client has a connection for calls, and one or two to see whether the server is there.
    clients = [MongoClient[dict[str, Any]](uri) for _ in range(8)]
    try:
        for client in clients:
            client.admin.command("ping")
        (jvm,) = psutil.Process(process.pid).children(recursive=True)
        names = [path.read_text() for path in Path(f"/proc/{jvm.pid}/task").glob("*/comm")]
        workers = sum(name.startswith("mongo-server-wo") for name in names)
        assert workers >= sum(one.status == "ESTABLISHED" for one in _served(jvm, uri))
    finally:
        for client in clients:
            client.close()
        process.terminate()
        process.wait(20)


def _served(jvm: psutil.Process, uri: str) -> list[Any]:
    """The connections of clients to the server."""
    port = int(uri.rpartition(":")[2])
    return [one for one in jvm.net_connections() if one.laddr.port == port]


def test_waiting_for_nobody_ends_in_a_sentence() -> None:
    (port,) = free_ports(1)
    with pytest.raises(MongoError, match="did not answer"):
        wait_for_mongo(f"mongodb://{LOOPBACK}:{port}", 0.5)
