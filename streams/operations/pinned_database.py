"""A SQLite database of another process as it is at one moment, copied while that writes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

_PAGES_AT_ONCE = 2000
_OPEN_S = 10.0


class PinnedDatabase:
    """A reader of a database with a write-ahead log. sqlite3.OperationalError if it cannot be read.

    Whoever writes does not wait for it; the write-ahead log grows until it is closed.
    """

    def __init__(self, path: Path):
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=_OPEN_S)
        self._connection.execute("PRAGMA query_only = ON")
        self._look()
        self._connection.execute("PRAGMA busy_timeout = 0")

    def pin(self) -> None:
        """From now on see what is committed at this moment, and nothing later.

        It waits for nobody: sqlite3.OperationalError if another process has to end something first.
        """
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._connection.execute("BEGIN")
        self._look()

    def _look(self) -> None:
        self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()

    def copy(self, target: Path, tell: Callable[[int, int], None]) -> None:
        """Copy it, as it was when it was pinned, into a new file; ``tell`` is told how many pages
        are left and how many there are."""

        def progress(_: int, left: int, total: int) -> None:
            tell(left, total)

        with closing(sqlite3.connect(target)) as into:
            self._connection.backup(into, pages=_PAGES_AT_ONCE, progress=progress)

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()
