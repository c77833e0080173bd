"""The SQLite file: one connection that writes, one a thread that reads, and who may have it open.

Rows are in a write-ahead log once a statement is committed, which survives the death of the
process, and on the disk at the next checkpoint, which survives the loss of power as well.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITER_CACHE_KIB, READER_CACHE_KIB = 32_768, 2_048
"""Pages that a connection keeps. There may be many readers, and the operating system caches the
file for all of them."""

WAL_LIMIT = 64 * 1024 * 1024
"""What is left of the write-ahead log after a checkpoint, in bytes."""


class InUseError(RuntimeError):
    """Another server has the file open."""


class Store:
    """Access to the file from many threads: reads side by side, writes one after the other."""

    def __init__(self, path: Path):
        """Open the file, or make it. Raises InUseError if another process has it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        for each in (path, lock := path.with_suffix(".lock")):
            each.touch(mode=0o600)
        self._claim = lock.open("w")
        try:
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._claim.close()
            raise InUseError(f"{path} is in use: another server runs on it.") from None
        self._writing = threading.RLock()
        self._readers = threading.local()
        self._writer = self._connected(WRITER_CACHE_KIB)
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection for one transaction, which is committed unless the block raises."""
        with self._writing:
            if self._writer.in_transaction:
                yield self._writer
                return
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; the file looks the same throughout the block."""
        connection: sqlite3.Connection | None = getattr(self._readers, "connection", None)
        if connection is None:
            connection = self._readers.connection = self._connected(READER_CACHE_KIB)
        if connection.in_transaction:
            yield connection
            return
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("COMMIT")

    def forget_thread(self) -> None:
        """Give back the connection of this thread."""
        connection: sqlite3.Connection | None = self._readers.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def size(self) -> int:
        """Bytes of the file."""
        return self._path.stat().st_size

    def close(self) -> None:
        """Wait for who writes, put the log into the file, and let others have it."""
        with self._writing:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._writer.close()
        self._claim.close()

    def _connected(self, cache_kib: int) -> sqlite3.Connection:
        # Statements are prepared once: a server says the same few thousands of times.
        made = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        made.execute("PRAGMA synchronous = NORMAL")
        made.execute(f"PRAGMA cache_size = -{cache_kib}")
        made.execute("PRAGMA busy_timeout = 10000")
        return made
