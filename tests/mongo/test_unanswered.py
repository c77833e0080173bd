"""A server that takes a call and never answers it: the call is made again."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from pydantic import SecretStr

from streams.serving.mongo import mongo
from streams.serving.mongo.mongo import MongoSink
from topology.graph import build_graph
from topology.settings import LOOPBACK, Settings

pytestmark = pytest.mark.mongo


class Gate:
    """What stands between a client and a server. While ``shut``, answers are thrown away."""

    def __init__(self, upstream: tuple[str, int]):
        self.shut = threading.Event()
        self.thrown_away = threading.Event()
        self._upstream = upstream
        self._listening = socket.create_server((LOOPBACK, 0))
        self._open: list[socket.socket] = [self._listening]
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._upstream)
                self._open += [client, server]
                for source, target, is_answer in ((client, server, False), (server, client, True)):
                    threading.Thread(
                        target=self._pump, args=(source, target, is_answer), daemon=True
                    ).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError), closing(source), closing(target):
            while data := source.recv(65_536):
                if is_answer and self.shut.is_set():
                    self.thrown_away.set()
                else:
                    target.sendall(data)

    def close(self) -> None:
        for one in self._open:
            # A thread that waits in a call is not woken by closing alone.
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def gate_to(uri: str) -> Iterator[Gate]:
    address = urlsplit(uri)
    assert address.hostname
    assert address.port
    gate = Gate((address.hostname, address.port))
    try:
        yield gate
    finally:
        gate.close()


async def test_a_call_that_is_never_answered_is_made_again(
    mongo_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo, "ANSWER_TIMEOUT_MS", 300)
    with gate_to(mongo_uri) as gate:
        settings = Settings(
            podstream_home=tmp_path,
            mongodb_uri=SecretStr(f"mongodb://{LOOPBACK}:{gate.port}"),
            mongodb_database=f"t{uuid4().hex[:8]}",
        )
        sink = MongoSink(settings, build_graph(1).stages["serve_mongo"])
        await sink.replace("episodes", [{"_id": "a", "title": "A"}])
        gate.shut.set()
        reading = asyncio.ensure_future(sink.find("episodes", ["a"]))
        assert await asyncio.to_thread(gate.thrown_away.wait, 10)
        gate.shut.clear()
        assert await asyncio.wait_for(reading, 30) == {"a": {"_id": "a", "title": "A"}}
        sink.close()
