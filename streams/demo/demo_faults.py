"""The faults themselves: each spoils a good answer of the demo index in one way."""

from __future__ import annotations

import asyncio
import json
import math
import time
import zlib
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from aiohttp import web

LOOP = "/demo/loop"
"""Redirects to itself."""

STRANGER = 5_000_000_000_000
"""Added to an id, it gives one that the index does not know."""

LARGE_BYTES = 30_000_000
PAGE = "<!doctype html><html><head><title>Just a moment</title></head><body><p>Checking your \
browser.</p></body></html>"
WAIT_UNTIL = web.RequestKey("wait_until", float)
"""Unix seconds before which an answer asked not to be bothered again."""


@dataclass(frozen=True)
class Pace:
    """Seconds: how long a ``slow`` answer takes, a ``stalled`` one that nobody should wait for,
    and what `Retry-After` says (whole); ``clock()`` is the time that it counts from, ``sleep()``
    lets the time of an answer pass."""

    slow_s: float = 2.0
    stall_s: float = 40.0
    retry_after_s: int = 2
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


Fault = Callable[[web.Request, web.Response, Pace], Awaitable[web.StreamResponse]]


def _error(status: int) -> Fault:
    async def fail(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
        return web.Response(status=status, text=PAGE, content_type="text/html")

    return fail


async def _busy_seconds(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    request[WAIT_UNTIL] = pace.clock() + pace.retry_after_s
    return web.Response(status=429, headers={"Retry-After": str(pace.retry_after_s)})


async def _busy_date(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    until = math.floor(pace.clock()) + pace.retry_after_s
    request[WAIT_UNTIL] = float(until)
    return web.Response(status=429, headers={"Retry-After": formatdate(until, usegmt=True)})


async def _page(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


async def _slow(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    await pace.sleep(pace.slow_s)
    return response


async def _stalled(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    await pace.sleep(pace.stall_s)
    return response


async def _cut(request: web.Request, response: web.Response, pace: Pace) -> web.StreamResponse:
    """Half of the body, and then the connection is gone."""
    return await _broken_off(request, response, announced=1, sent=0.5)


async def _too_long(request: web.Request, response: web.Response, pace: Pace) -> web.StreamResponse:
    """A Content-Length of twice the body."""
    return await _broken_off(request, response, announced=2, sent=1)


async def _broken_off(
    request: web.Request, response: web.Response, announced: float, sent: float
) -> web.StreamResponse:
    body = _body(response)
    partial = web.StreamResponse(headers={"Content-Type": response.headers["Content-Type"]})
    partial.content_length = int(announced * len(body)) + 1
    await partial.prepare(request)
    await partial.write(body[: int(sent * len(body))])
    if request.transport is not None:
        request.transport.close()
    return partial


async def _half(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    """Half of the body with nothing that tells."""
    body = _body(response)
    headers = {"Content-Type": response.headers["Content-Type"]}
    return web.Response(body=body[: len(body) // 2], headers=headers)


async def _bad_gzip(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    packed = zlib.compress(_body(response), wbits=31)
    spoilt = packed[:10] + bytes(byte ^ 0x55 for byte in packed[10:])
    headers = {"Content-Encoding": "gzip", "Content-Type": response.content_type}
    return web.Response(body=spoilt, headers=headers)


async def _says_false(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    return web.json_response({"status": "false", "description": "Something went wrong."})


async def _no_ids(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    return _changed(response, lambda item: item.pop(_id_field(item)))


async def _other_ids(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    def change(item: dict[str, Any]) -> None:
        item[_id_field(item)] += STRANGER

    return _changed(response, change)


async def _redirects(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    return web.Response(status=302, headers={"Location": LOOP})


async def _empty(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    return web.Response(body=b"", content_type=response.content_type)


async def _other_charset(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    """UTF-16 where UTF-8 is announced."""
    text = response.text or ""
    return web.Response(
        body=text.encode("utf-16"), headers={"Content-Type": response.headers["Content-Type"]}
    )


async def _large(request: web.Request, response: web.Response, pace: Pace) -> web.StreamResponse:
    """30 MB, without saying so before."""
    large = web.StreamResponse(headers={"Content-Type": response.headers["Content-Type"]})
    await large.prepare(request)
    body = _body(response) + b"\n"
    with suppress(ConnectionError):  # nobody has to listen to the end
        for _ in range(-(-LARGE_BYTES // len(body))):
            await large.write(body)
    return large


async def _binary(request: web.Request, response: web.Response, pace: Pace) -> web.Response:
    body = b"ID3\x04" + bytes(range(256)) * 40
    return web.Response(body=body, headers={"Content-Type": response.headers["Content-Type"]})


PASSING: dict[str, Fault] = {
    "429": _error(429),
    "429 with seconds": _busy_seconds,
    "429 with a date": _busy_date,
    "500": _error(500),
    "502": _error(502),
    "503": _error(503),
    "slow": _slow,
    "stalled": _stalled,
    "cut": _cut,
    "too long a length": _too_long,
    "bad gzip": _bad_gzip,
}
"""Faults of whatever is asked for."""

PASSING_OF_API: dict[str, Fault] = {"a page for JSON": _page, "half of the JSON": _half}
"""Faults of the API beside those: whoever asks sees that this is no JSON, and no more."""

PASSING_OF_FEEDS: dict[str, Fault] = {"a page for a feed": _page, "half of the feed": _half}
"""Faults of RSS feeds, which are then seen to be none."""

MISLEADING: dict[str, Fault] = {
    "status false": _says_false,
    "no ids": _no_ids,
    "other ids": _other_ids,
    "redirect loop": _redirects,
}
"""Answers of the API that are well-formed, and wrong."""

LASTING: dict[str, Fault] = {
    "a page for captions": _page,
    "empty": _empty,
    "half of the text": _half,
    "other charset": _other_charset,
    "30 MB": _large,
    "404": _error(404),
    "410": _error(410),
    "binary": _binary,
    "captions behind a redirect loop": _redirects,
}
"""Faults of a transcript, which stay with it."""

FAULTS = {**PASSING, **PASSING_OF_API, **PASSING_OF_FEEDS, **MISLEADING, **LASTING}

ODDITIES: dict[str, dict[str, Any]] = {
    "nulls": {"description": None, "title": None, "explicit": None, "persons": None},
    "numbers as text": {"datePublished": "1700000000", "duration": "1800", "explicit": "1"},
    "text as numbers": {"title": 42, "description": 7, "guid": 3, "feedTitle": 0},
    "other types": {"description": ["a"], "title": {"en": "A"}, "image": False, "season": []},
    "impossible": {"datePublished": -5, "duration": 10**12, "enclosureUrl": "javascript:1"},
    "no transcripts": {"transcripts": None, "transcriptUrl": None},
}
"""What the fields of an episode may be instead; ids never change."""


def odd_items(answer: dict[str, Any], oddity: Callable[[int], str | None]) -> None:
    """Put what is odd about them into the episodes of an API's answer."""
    for item in episodes_of(answer):
        kind = oddity(item["id"]) if "id" in item else None
        if kind:
            item.update({key: value for key, value in ODDITIES[kind].items() if key in item})


def without_items(answer: dict[str, Any], episode_ids: Collection[int]) -> None:
    """Take episodes out of a listing."""
    answer["items"] = [item for item in answer["items"] if item["id"] not in episode_ids]
    answer["count"] = len(answer["items"])


def episodes_of(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The episodes in any of the API's answers."""
    data = answer.get("data") or {}
    yield from answer.get("items") or []
    yield from data.get("items") or []
    if answer.get("episode"):
        yield answer["episode"]


def _id_field(item: dict[str, Any]) -> str:
    return "id" if "id" in item else "episodeId"


def _changed(response: web.Response, change: Callable[[dict[str, Any]], object]) -> web.Response:
    """The answer with every third of its episodes changed, the first one always."""
    answer = json.loads(response.text or "{}")
    for item in list(episodes_of(answer))[::3]:
        change(item)
    return web.json_response(answer)


def _body(response: web.Response) -> bytes:
    return response.body if isinstance(response.body, bytes) else b""
