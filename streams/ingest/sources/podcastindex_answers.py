"""What an answer of PodcastIndex means: a JSON object, or an error of one kind or another."""

from __future__ import annotations

import json
import logging
from typing import Any

import aiohttp

from streams.http.circuit import utc_text
from streams.ingest.sources.base import SourceError, UnavailableSourceError
from streams.text.plain_text import clean

log = logging.getLogger(__name__)

MAX_BYTES = 50_000_000
NO_SUCH_THING = (400, 404)
"""Statuses that speak of what was asked for, rather than of who asks or who answers."""
OF_THE_KEY = (401, 403)


class TurnedAwayError(UnavailableSourceError):
    """The index answers, but not what was asked, until somebody mends something."""


def records_of(value: object) -> list[dict[str, Any]]:
    """The objects in a list, if it is one."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


async def read_body(response: aiohttp.ClientResponse) -> bytes:
    """A body; SourceError if it is too large."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        body += chunk
        if len(body) > MAX_BYTES:
            raise SourceError(f"an answer of more than {MAX_BYTES} bytes")
    return bytes(body)


def answer_of(
    route: str, status: int, wait_s: float | None, body: bytes, now: float
) -> dict[str, Any]:
    """The JSON object of an answer that came at ``now`` (Unix seconds).

    Raises SourceError where the index has no such thing, UnavailableSourceError where it may have
    it later: after ``wait_s`` seconds, if it says so.
    """
    start = body[:200].decode("utf-8", "replace").strip()
    if status == 429 or status >= 500:
        raise UnavailableSourceError(f"{route}: HTTP {status}", wait_s)
    if status in NO_SUCH_THING:
        raise SourceError(f"{route}: HTTP {status}: {start}")
    if status != 200:
        raise _turned_away(route, status, start, now)
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        # A web page with status 200 is a proxy's or the index's own bad moment.
        raise UnavailableSourceError(f"{route}: not JSON: {start[:60]}") from error
    if not isinstance(parsed, dict) or str(parsed.get("status")).lower() != "true":
        said = parsed.get("description") if isinstance(parsed, dict) else None
        raise SourceError(f"{route}: {str(said or start)[:200]}")
    return parsed


def _turned_away(route: str, status: int, said: str, now: float) -> TurnedAwayError:
    message = clean(f"{route}: HTTP {status}: {said}")
    if status in OF_THE_KEY:
        log.error(
            "PodcastIndex does not let us in: %s. Are PODCASTINDEX_KEY and PODCASTINDEX_SECRET "
            "right, and is the clock? Here it is %s",
            message,
            utc_text(now),
        )
        message += " (key, secret or clock)"
    return TurnedAwayError(message)
