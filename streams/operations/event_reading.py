"""Reads and encodes the events of a file, a large one in a process of its own.

To read, check and encode rows takes as long as to send them, and both hold the interpreter: two
processes bring in twice as much on two cores. Encoded events are also the smallest to hand over.
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

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from streams.operations.core import imports
from streams.operations.core.event_columns import parse_columns
from streams.operations.core.event_encoding import EventEncoder
from streams.operations.core.imports import Rows
from streams.operations.reports import ImportFailedError
from streams.operations.table_source import FileError
from streams.operations.tabular import read_rows
from streams.runtime.without_pandas import keep_pandas_out

LARGE_BYTES = 8 * 1_048_576
"""From this size on the second that another process takes to start is made up for."""

READ_AHEAD = 16
"""Parts of the file that the process holds while it is not asked: it reads on while others send."""


class Encoded(NamedTuple):
    """Some rows of a file."""

    users: pa.LargeBinaryArray
    """Whose each valid event is, in UTF-8."""
    messages: pa.LargeBinaryArray
    """The messages of these events."""
    lines: NDArray[np.int64]
    """Their lines in the file."""
    refused: list[tuple[int, str]]
    """Line and reason of the other rows."""
    line: int
    """The last line of all."""
    share: float
    """How much of the file has been read, 0 to 1."""


Read = Callable[[int, int], Iterator[Encoded]]
"""Reads what comes after a line, for messages under a schema id."""


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


def encoded(
    encoder: EventEncoder,
    events: pl.DataFrame,
    refused: list[tuple[int, str]],
    line: int,
    share: float,
) -> Encoded:
    """Some rows of a file: their ``events`` as `parse_columns` gives them, encoded."""
    users = events["user_id"].cast(pl.Binary).to_arrow()
    lines = events["line"].to_numpy()
    return Encoded(users, encoder.encode(events), lines, refused, line, share)


def _received(connection: Connection, after: int, schema_id: int) -> Iterator[Encoded]:
    try:
        connection.send((after, schema_id))
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
    keep_pandas_out()
    # who asks may be gone
    with suppress(EOFError, ConnectionError), ThreadPoolExecutor(1) as sender:
        waiting: deque[Future[None]] = deque()
        for some in _or_why_not(_read(path, *connection.recv())):
            waiting.append(sender.submit(connection.send, some))
            if len(waiting) > READ_AHEAD:
                waiting.popleft().result()


def _or_why_not(found: Iterable[Encoded]) -> Iterator[Encoded | FileError | None]:
    """What is found, then None, or what is wrong with the file."""
    try:
        yield from found
    except FileError as error:
        yield error
    else:
        yield None


def _read(path: Path, after: int, schema_id: int) -> Iterator[Encoded]:
    """What comes after a line of a file. FileError as `read_rows` raises it."""
    encoder = EventEncoder(schema_id)
    share, line = 0.0, after

    def advance(reached: float) -> None:
        nonlocal share
        share = reached

    with few_collections():
        for rows in read_rows(path, imports.EVENT_REQUIRED, advance):
            rest = _behind(rows, after)
            events, refused = parse_columns(rest, time.time_ns() // 1_000_000)
            line = max([line, *rest.lines[-1:], *(at for at, _ in refused[-1:])])
            yield encoded(encoder, events, refused, line, share)


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
