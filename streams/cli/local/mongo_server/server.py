"""The process: connections from this machine, a thread for each.

`python -m streams.cli.local.mongo_server.server --port N --path FILE` runs it in the foreground
until SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import socket
import socketserver
import sys
import threading
from pathlib import Path

from streams.cli.local.mongo_server import wire
from streams.cli.local.mongo_server.commands import Commands
from streams.cli.local.mongo_server.store import InUseError, Store
from topology.settings import LOOPBACK

log = logging.getLogger(__name__)


class _Connection(socketserver.StreamRequestHandler):
    """Answers the commands of one client, one after the other."""

    server: MongoServer
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            try:
                while (message := wire.read(self.rfile)) is not None:
                    answer = self.server.answer(message)
                    if message.answered:
                        self.wfile.write(answer)
            except wire.ProtocolError as error:
                log.warning("%s: %s: connection closed", self.client_address, error)
        self.server.store.forget_thread()


class MongoServer(socketserver.ThreadingTCPServer):
    """A MongoDB server over one SQLite file. It listens as soon as it is made."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, path: Path, port: int):
        """Raises InUseError if another process has the file, OSError if it has the port."""
        self.store = Store(path)
        self._commands = Commands(self.store)
        super().__init__((LOOPBACK, port), _Connection)

    def answer(self, message: wire.Message) -> bytes:
        """Do what a message says; give the bytes of the answer."""
        try:
            return wire.reply(message, self._commands.run(message))
        except Exception as error:
            # One client's trouble must not end its connection without a word, nor the others'.
            log.exception("%s failed", message.name)
            said = {"ok": 0.0, "errmsg": f"{type(error).__name__}: {error}", "code": 8}
            return wire.reply(message, said)

    def handle_error(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        """Say what ended a connection."""
        log.exception("Connection from %s failed", client_address)


def serve(path: Path, port: int) -> int:
    """Run the server until SIGTERM or SIGINT; give the exit status."""
    try:
        server = MongoServer(path, port)
    except (InUseError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    serving.start()
    print(f"MongoDB protocol on {LOOPBACK}:{port}, data in {path}", flush=True)
    stop.wait()
    server.shutdown()
    serving.join()
    server.server_close()
    server.store.close()
    print("Stopped", flush=True)
    return 0


def main() -> None:
    """Entry point of the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", type=Path, required=True, help="the SQLite file")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    sys.exit(serve(arguments.path, arguments.port))


if __name__ == "__main__":
    main()
