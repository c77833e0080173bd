"""Gets what is to be inspected, from a file, an address or standard input, and has it read.

Nothing is started and nothing stored. Addresses go through the guarded fetcher, as everywhere.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from streams.http.decompress import TooLargeError, UnpackError, unpack_file
from streams.http.fetcher import GuardedFetcher
from streams.http.guard import FetchError, RefusedError
from streams.http.media import ANY_FILE, FEED, TRANSCRIPT, Accept
from streams.operations.core import imports
from streams.operations.core.imports import Rows
from streams.operations.core.inspection import (
    Inspected,
    inspect_episodes,
    inspect_events,
    inspect_feed,
    inspect_opml,
    inspect_transcript,
    no_feed,
    no_opml,
    no_table,
    no_transcript,
)
from streams.operations.table_source import FileError
from streams.operations.tabular import kind_of, read_rows, read_table
from streams.runtime.clock import SystemClock
from topology.settings import Settings

STANDARD_INPUT = "-"


class NoBodyError(Exception):
    """There is nothing to inspect; the text says why, `refused` whether our rules forbid it."""

    def __init__(self, message: str, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


@dataclass(frozen=True)
class Input:
    """A body, the ``url`` or name it was had from, and what its server said of it."""

    url: str
    body: bytes
    mime: str = ""
    charset: str | None = None


def is_address(source: str) -> bool:
    """Whether a source is to be fetched."""
    return source.lower().startswith(("http://", "https://"))


def feed(source: str, settings: Settings, url: str = "") -> Inspected:
    """`inspect_feed` of a source, as if it were subscribed to as ``url``, if that is given."""
    try:
        found = _have(source, settings, FEED)
    except NoBodyError as error:
        return no_feed(source, str(error))
    return inspect_feed(url or found.url, found.body)


def transcript(source: str, settings: Settings, mime: str = "", language: str = "") -> Inspected:
    """`inspect_transcript` of a source; ``mime`` is the type that its feed lists it with."""
    try:
        found = _have(source, settings, TRANSCRIPT)
    except NoBodyError as error:
        return no_transcript("refused" if error.refused else "failed", str(error))
    return inspect_transcript(found.url, mime or found.mime, found.body, found.charset, language)


def opml(source: str, settings: Settings) -> Inspected:
    """`inspect_opml` of a source."""
    try:
        return inspect_opml(_have(source, settings, ANY_FILE).body)
    except NoBodyError as error:
        return no_opml(source, str(error))


def episodes(source: str, settings: Settings) -> Inspected:
    """`inspect_episodes` of a source."""
    return _table(source, settings, imports.EPISODE_REQUIRED, inspect_episodes)


def events(source: str, settings: Settings) -> Inspected:
    """`inspect_events` of a source, as if it were imported now."""
    now_ms = time.time_ns() // 1_000_000
    return _table(
        source, settings, imports.EVENT_REQUIRED, lambda rows: inspect_events(rows, now_ms)
    )


def _table(
    source: str,
    settings: Settings,
    required: tuple[str, ...],
    inspect: Callable[[Iterator[Rows]], Inspected],
) -> Inspected:
    try:
        if source != STANDARD_INPUT and not is_address(source):
            return inspect(read_rows(Path(source), required))
        found = _have(source, settings, ANY_FILE, limited=source != STANDARD_INPUT)
        # What an address ends in says less than a file's name: it is not refused for it.
        name = urlsplit(found.url).path.rpartition("/")[2] if is_address(source) else ""
        name = name if kind_of(name) else ""
        return inspect(read_table(io.BytesIO(found.body), name or source, required))
    except (FileError, NoBodyError) as error:
        return no_table(str(error))


def _have(source: str, settings: Settings, accept: Accept, *, limited: bool = True) -> Input:
    """What a source holds; as large as it may be when it is fetched, unless not ``limited``."""
    if is_address(source):
        return asyncio.run(_fetch(source, settings, accept))
    try:
        standard = source == STANDARD_INPUT
        body = sys.stdin.buffer.read() if standard else Path(source).read_bytes()
    except OSError as error:
        raise NoBodyError(f"{source} cannot be read: {error.strerror or error}") from error
    if not limited:
        return Input("", body)
    try:
        most = settings.fetch_max_bytes
        if len(body) > most:
            raise TooLargeError(f"it is {len(body):,} bytes; {most:,} are allowed")
        # As it would be if it were fetched.
        body = unpack_file(body, most)
    except TooLargeError as error:
        raise NoBodyError(f"too large: {error} (FETCH_MAX_BYTES)", refused=True) from error
    except UnpackError as error:
        raise NoBodyError(str(error)) from error
    return Input("" if standard else Path(source).absolute().as_uri(), body)


async def _fetch(url: str, settings: Settings, accept: Accept) -> Input:
    async with GuardedFetcher.from_settings(settings, SystemClock()) as fetcher:
        try:
            found = await fetcher.get(url, accept=accept)
        except RefusedError as error:
            raise NoBodyError(str(error), refused=True) from error
        except FetchError as error:
            raise NoBodyError(str(error)) from error
    # Ids and relative addresses are made with what was asked for, wherever redirects lead.
    return Input(url, found.body, found.content_type, found.charset)
