"""Reads the events of a file, a large one in a process of its own.

To read and check rows takes as long as to encode and send them, and both hold the interpreter: two
processes bring in twice as much on two cores.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import polars as pl

from streams.operations.core import imports
from streams.operations.core.event_columns import parse_columns
from streams.operations.core.imports import Rows
from streams.operations.reports import ImportFailedError
from streams.operations.tabular import FileError, read_rows

LARGE_BYTES = 8 * 1_048_576
"""From this size on the second that another process takes to start is made up for."""

READ_AHEAD = 16
"""Parts of the file that the process holds while it is not asked: it reads on while others send."""


class Parsed(NamedTuple):
    """Some rows of a file."""

    events: pl.DataFrame
    """The valid ones, as `parse_columns` gives them."""
    refused: list[tuple[int, str]]
    """Line and reason of the others."""
    line: int
    """The last line of them."""
    share: float
    """How much of the file has been read, 0 to 1."""


Read = Callable[[int], Iterator[Parsed]]
"""Reads what comes after a line."""


@contextmanager
def reading(path: Path, large: int = LARGE_BYTES) -> Iterator[Read]:
    """Gives what reads a file, once; the process that reads a large one has started by then.

    FileError as `read_rows` raises it, and ImportFailedError if the process that reads is killed.
    """
    try:
        is_large = path.stat().st_size >= large
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    if not is_large:
        yield partial(_read, path)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would take locks of other threads along
    here, there = spawn.Pipe()
    reader = spawn.Process(target=_send, args=(path, there), daemon=True)
    reader.start()
    there.close()
    try:
        yield partial(_received, here)
    finally:
        here.close()
        reader.terminate()
        reader.join()


def _received(connection: Connection, after: int) -> Iterator[Parsed]:
    try:
        connection.send(after)
        while (some := connection.recv()) is not None:
            if isinstance(some, FileError):
                raise some
            yield some
    except (EOFError, OSError):  # at the end of a message, or within one
        raise ImportFailedError(
            "The process that reads the file was ended. The same command goes on from here."
        ) from None


def _send(path: Path, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that asked
    # who asks may be gone
    with suppress(EOFError, ConnectionError), ThreadPoolExecutor(1) as sender:
        waiting: deque[Future[None]] = deque()
        for some in _or_why_not(_read(path, connection.recv())):
            waiting.append(sender.submit(connection.send, some))
            if len(waiting) > READ_AHEAD:
                waiting.popleft().result()


def _or_why_not(found: Iterable[Parsed]) -> Iterator[Parsed | FileError | None]:
    """What is found, then None, or what is wrong with the file."""
    try:
        yield from found
    except FileError as error:
        yield error
    else:
        yield None


def _read(path: Path, after: int) -> Iterator[Parsed]:
    """What comes after a line of a file. FileError as `read_rows` raises it."""
    share, line = 0.0, after

    def advance(reached: float) -> None:
        nonlocal share
        share = reached

    with few_collections():
        for rows in read_rows(path, imports.EVENT_REQUIRED, advance):
            rest = _behind(rows, after)
            events, refused = parse_columns(rest, time.time_ns() // 1_000_000)
            line = max([line, *rest.lines[-1:], *(at for at, _ in refused[-1:])])
            yield Parsed(events, refused, line, share)


def _behind(rows: Rows, line: int) -> Rows:
    """The rows, and those refused, that come after a line."""
    if not line or (rows.lines and rows.lines[0] > line):
        return rows
    kept = [place for place, at in enumerate(rows.lines) if at > line]
    return Rows(
        [rows.lines[place] for place in kept],
        [rows.rows[place] for place in kept],
        [one for one in rows.refused if one[0] > line],
    )


@contextmanager
def few_collections() -> Iterator[None]:
    """Rows are many objects that refer to nothing: no case for the collector of cycles."""
    before = gc.get_threshold()
    gc.set_threshold(1_000_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
