"""The embedded MongoDB server as a process: durable, alone with its file, deaf to nonsense."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, ReplaceOne
from pymongo.errors import AutoReconnect, BulkWriteError

from streams.cli.local.mongo import (
    DATA_FILE,
    MongoError,
    mongo_command,
    running_mongo,
    wait_for_mongo,
)
from streams.cli.local.ports import free_ports, is_free
from tests.waiting import wait_until
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
    with MongoClient[dict[str, Any]](uri) as client:
        operations = [ReplaceOne({"_id": n}, {"n": n}, upsert=True) for n in range(count)]
        client.test.kept.bulk_write(operations)


def _count(uri: str) -> int:
    with MongoClient[dict[str, Any]](uri) as client:
        return client.test.kept.count_documents({})


def test_a_clean_stop_keeps_everything(tmp_path: Path) -> None:
    with running_mongo(tmp_path) as uri:
        _write(uri, 200)
    assert not (tmp_path / "mongo" / f"{DATA_FILE}-wal").exists()
    with running_mongo(tmp_path) as uri:
        assert _count(uri) == 200
    assert "Traceback" not in (tmp_path / "logs" / "mongo.log").read_text()


def test_kill_9_in_the_midst_of_writes_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    process, uri, port = _started(tmp_path)
    answered: list[int] = []

    def write() -> None:
        with (
            # Ended by the kill: what was under way then may be there or not.
            suppress(AutoReconnect, BulkWriteError),
            MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=500) as client,
        ):
            for batch in range(100_000):
                client.test.kept.insert_many([{"_id": batch * 10 + n} for n in range(10)])
                answered.append(batch)

    writing = threading.Thread(target=write)
    writing.start()
    wait_until(lambda: len(answered) > 50, 20, "some writes")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    writing.join(20)
    wait_until(lambda: is_free(port), 10, "the port")
    with running_mongo(tmp_path) as again, MongoClient[dict[str, Any]](again) as client:
        there = {document["_id"] for document in client.test.kept.find({}, {"_id": 1})}
    assert {batch * 10 + n for batch in answered for n in range(10)} <= there
    # A command is written whole or not at all.
    assert len(there) % 10 == 0


def test_a_second_server_on_the_same_file_is_refused(tmp_path: Path) -> None:
    with running_mongo(tmp_path) as uri:
        argv, extra = mongo_command(tmp_path, free_ports(1)[0])
        second = subprocess.run(
            argv, env={**os.environ, **extra}, capture_output=True, text=True, timeout=30
        )
        assert second.returncode == 1
        assert "another server runs on it" in second.stderr
        _write(uri, 3)
        assert _count(uri) == 3


def test_its_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    with running_mongo(tmp_path) as uri:
        _write(uri, 1)
        modes = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "mongo").iterdir()}
    assert set(modes.values()) == {0}, modes


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        struct.pack("<iiii", 2_000_000_000, 1, 0, 2013),
        struct.pack("<iiii", -1, 1, 0, 2013),
        struct.pack("<iiii", 26, 1, 0, 2013) + struct.pack("<IBi", 0, 0, 500) + b"\0",
        struct.pack("<iiii", 30, 1, 0, 2012) + bytes(14),
        struct.pack("<iiii", 21, 1, 0, 2013) + struct.pack("<IB", 0, 9),
    ],
)
def test_nonsense_ends_its_own_connection_only(mongo_uri: str, nonsense: bytes) -> None:
    port = int(mongo_uri.rpartition(":")[2])
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        client.admin.command("ping")
        with socket.create_connection((LOOPBACK, port), timeout=10) as stranger:
            stranger.sendall(nonsense)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(1) == b""
        client.admin.command("ping")


def test_a_connection_does_not_wait_for_the_queries_of_others(tmp_path: Path) -> None:
    with running_mongo(tmp_path) as uri, MongoClient[dict[str, Any]](uri) as client:
        text = "a" * 40
        client.test.kept.insert_many([{"_id": n, "text": text} for n in range(20_000)])
        slow = threading.Thread(
            target=lambda: client.test.kept.count_documents({"text": {"$regex": "(a+)b"}})
        )
        slow.start()
        while slow.is_alive():
            with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=5_000) as other:
                assert other.test.kept.find_one({"_id": 7}) is not None
        slow.join()


def test_waiting_for_nobody_ends_in_a_sentence() -> None:
    (port,) = free_ports(1)
    with pytest.raises(MongoError, match="did not answer"):
        wait_for_mongo(f"mongodb://{LOOPBACK}:{port}", 0.5)
