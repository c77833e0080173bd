"""Downloads large files of strangers to disk through the guarded fetcher, and goes on after a cut.

Beside the part that is there lies what its server said of the whole (ETag, Last-Modified); the
rest is asked for on condition that this is still so (Range, If-Range: RFC 9110, 13.1.5 and 14).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from streams.http.fetcher import CHUNK_BYTES, GuardedFetcher
from streams.http.guard import FetchError, RefusedError, UnavailableError
from streams.http.media import Accept

TRIES = 4
"""Answers cut in the middle that are taken up again at once, if each brought something."""
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:([0-9]{1,18})|\*)")


@dataclass(frozen=True)
class Caps:
    """What a download may take; ``timeout_s`` is for all tries together."""

    max_bytes: int
    timeout_s: float


async def download(
    fetcher: GuardedFetcher, url: str, path: Path, caps: Caps, accept: Accept
) -> None:
    """The body behind ``url`` in ``path``, whole. What came before a failure stays beside it, for
    another call to go on with.

    Raises as `GuardedFetcher.get` does.
    """
    part = path.with_name(path.name + ".part")
    until = fetcher.clock.monotonic() + caps.timeout_s
    for _ in range(TRIES):
        before = _size(part)
        left_s = until - fetcher.clock.monotonic()
        try:
            await _once(fetcher, url, part, caps, accept, left_s)
            part.replace(path)
            _validator_file(part).unlink(missing_ok=True)
            return
        except RefusedError:
            forget(path)
            raise
        except UnavailableError as error:
            failed = error
            progressed = _size(part) > before
            if not progressed or error.until is not None:
                break
    raise failed


def forget(path: Path) -> None:
    """Delete a download and what there is of it."""
    part = path.with_name(path.name + ".part")
    for file in (path, part, _validator_file(part)):
        file.unlink(missing_ok=True)


async def _once(
    fetcher: GuardedFetcher, url: str, part: Path, caps: Caps, accept: Accept, left_s: float
) -> None:
    have, validator = _size(part), _read_validator(part, url)
    headers = {"Accept-Encoding": "identity"}
    if have and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    async with fetcher.opened(url, headers, max(left_s, 0.001)) as answer:
        start = _start(answer, have if "Range" in headers else 0)
        if start is None:
            # What is here is not a beginning of what is there.
            part.unlink(missing_ok=True)
            raise UnavailableError("the file has changed in the middle of its download")
        if (why := accept.refusal(answer.headers.get("Content-Type", ""))) is not None:
            raise RefusedError(why)
        if answer.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise RefusedError("the server packs the file, which was not asked for")
        announced = start + (answer.content_length or 0)
        if announced > caps.max_bytes:
            raise RefusedError(
                f"too large: it is {announced:,} bytes; {caps.max_bytes:,} are allowed"
            )
        if start == 0:
            await asyncio.to_thread(_write_validator, part, url, answer.headers)
        await _append(answer, part, start, caps.max_bytes)


async def _append(answer: aiohttp.ClientResponse, part: Path, start: int, max_bytes: int) -> None:
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        file.truncate()
        size = start
        async for piece in answer.content.iter_chunked(CHUNK_BYTES):
            size += len(piece)
            if size > max_bytes:
                raise RefusedError(f"too large: it is more than the {max_bytes:,} bytes allowed")
            await asyncio.to_thread(file.write, piece)


def _start(answer: aiohttp.ClientResponse, asked: int) -> int | None:
    """Where the body begins in the file; None if it cannot be put together with what is here."""
    if answer.status == 200:
        return 0
    if answer.status == 416 and asked:
        return None
    if answer.status != 206:
        raise FetchError(f"HTTP {answer.status}")
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return asked if found and int(found.group(1)) == asked > 0 else None


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _write_validator(part: Path, url: str, headers: Mapping[str, str]) -> None:
    """Keep what makes a condition: a strong ETag, or else the time of the last change."""
    etag = headers.get("ETag", "")
    strong = etag if etag.startswith('"') else ""
    said = {"url": url, "validator": strong or headers.get("Last-Modified", "")}
    # The beginning of another file must not stay beside what describes this one.
    part.unlink(missing_ok=True)
    _validator_file(part).write_text(json.dumps(said))


def _read_validator(part: Path, url: str) -> str:
    said: Any = {}
    with contextlib.suppress(OSError, ValueError):
        said = json.loads(_validator_file(part).read_text())
    if not isinstance(said, dict) or said.get("url") != url:
        return ""
    return str(said.get("validator") or "")
