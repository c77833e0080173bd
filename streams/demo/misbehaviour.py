"""How the demo index answers badly on request, in the ways that real servers do.

What happens is a function of a seed, the address asked for (path and query) and the number of the
request for it, so that a storm can be had again:

- A **passing** fault comes and goes: a status of 429 or 5xx, a web page in place of JSON, a cut
  connection. An address shows at most ``in_a_row`` of them before it answers well.
- A **misleading** answer is well-formed and wrong, for the API only: `"status": "false"`, ids
  missing or of other episodes, a redirect that leads nowhere. It comes and goes as well.
- An **oddity** stays with an episode wherever the API lists it: fields that are missing, null or of
  another type, though never its ids.
- A **lasting** fault stays with a transcript: a page in place of captions, half of it, 30 MB, 404.
- A **poisoned** episode is listed as recent, but its details and transcripts never come.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from streams.demo.demo_faults import (
    FAULTS,
    LASTING,
    MISLEADING,
    ODDITIES,
    PASSING,
    PASSING_OF_API,
    PASSING_OF_FEEDS,
    WAIT_UNTIL,
    Pace,
    odd_items,
    without_items,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TOOLS = "/demo"
"""Under which paths nothing is counted, and nothing ever goes wrong."""

_FAULT = web.RequestKey("fault", str)
_ID = re.compile(r"(?:[?&]id=|/transcripts/)(\d+)(?:[.&]|$)")


@dataclass(frozen=True)
class Plan:
    """What goes wrong. ``rate`` is the share of requests to be spoilt, 0 to 1."""

    seed: int
    rate: float = 0.3
    in_a_row: int = 2
    misleading: bool = True
    poisoned: frozenset[int] = frozenset()

    @classmethod
    def from_text(cls, text: str, poisoned: frozenset[int] = frozenset()) -> Plan:
        """A plan from ``SEED`` or ``SEED:RATE``; ValueError for anything else."""
        found = re.fullmatch(r"(\d{1,9})(?::(0(?:\.\d{1,6})?|1(?:\.0{1,6})?))?", text)
        if not found:
            raise ValueError(f"{text!r} is not SEED or SEED:RATE, such as 7:0.3")
        return cls(int(found[1]), float(found[2] or cls.rate), poisoned=poisoned)

    def temporary(self, address: str, number: int, kind: str = "") -> str | None:
        """The fault of the ``number``-th request (from 1) for an address; None if it goes well.

        ``kind`` is `api`, `feed` or empty for anything else.
        """
        if self.is_poisoned(address):
            return self._choose(PASSING.keys() - {"slow"}, address, number)
        if number % (self.in_a_row + 1) == 0 or self._draw(address, number) >= self.rate:
            return None
        faults = [*PASSING]
        if kind == "api":
            faults += [*PASSING_OF_API, *(MISLEADING if self.misleading else ())]
        elif kind == "feed":
            faults += PASSING_OF_FEEDS
        return self._choose(faults, address, number)

    def lasting(self, address: str) -> str | None:
        """What is always wrong with a transcript: a third as often as other things."""
        if self._draw("lasting", address) * 3 >= self.rate:
            return None
        return self._choose(LASTING, address)

    def oddity(self, episode_id: int) -> str | None:
        """What is odd about an episode's record."""
        if self._draw("odd", episode_id) >= self.rate:
            return None
        return self._choose(ODDITIES, episode_id)

    def status(self, address: str) -> str | bool:
        """How an answer to an address spells that it is a good one."""
        return True if self._draw("status", address) < self.rate else "true"

    def is_poisoned(self, address: str) -> bool:
        """Whether an address is of one poisoned episode's details or transcript."""
        found = _ID.search(address)
        return found is not None and int(found[1]) in self.poisoned

    def _draw(self, *about: object) -> float:
        return random.Random(f"{self.seed}:{about}").random()

    def _choose(self, kinds: Iterable[str], *about: object) -> str:
        return random.Random(f"{self.seed}:kind:{about}").choice(sorted(kinds))


class Misbehaviour:
    """A middleware that spoils answers as a plan says; ``shown`` counts its faults by name."""

    def __init__(self, plan: Plan, pace: Pace | None = None) -> None:
        self._plan = plan
        self._pace = pace or Pace()
        self._numbers: Counter[str] = Counter()
        self.shown: Counter[str] = Counter()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer as the handler does, or spoil the answer where its turn has come."""
        address = request.path_qs
        if request.path.startswith(TOOLS):
            return await handler(request)
        self._numbers[address] += 1
        response = await handler(request)
        if not isinstance(response, web.Response) or response.status != 200:
            return response
        kind = {"application/json": "api", "application/rss+xml": "feed"}.get(response.content_type)
        if request.path.startswith("/transcripts/"):
            kind = None  # which may be JSON too
        if kind == "api":
            self._make_odd(request, response)
        fault = self._plan.temporary(address, self._numbers[address], kind or "")
        if fault in (None, "slow") and request.path.startswith("/transcripts/"):
            fault = self._plan.lasting(address) or fault
        if fault is None:
            return response
        self.shown[fault] += 1
        request[_FAULT] = fault
        return await FAULTS[fault](request, response, self._pace)

    def _make_odd(self, request: web.Request, response: web.Response) -> None:
        answer = json.loads(response.text or "null")
        if request.path.endswith("/episodes/byfeedid"):
            without_items(answer, self._plan.poisoned)
        odd_items(answer, self._plan.oddity)
        answer["status"] = self._plan.status(request.path_qs)
        response.text = json.dumps(answer)


class RequestLog:
    """Counts what is asked for, and answers that went well, by path and query.

    ``early`` are the requests that came before the time named by the `Retry-After` of the last
    answer to the same address.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._requests: Counter[str] = Counter()
        self._good: Counter[str] = Counter()
        self._early: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note when an address was asked for, and what it was answered."""
        if request.path.startswith(TOOLS):
            return await handler(request)
        address = request.path_qs
        self._requests[address] += 1
        if self._clock() < self._not_before.pop(address, 0.0):
            self._early[address] += 1
        response = await handler(request)
        if WAIT_UNTIL in request:
            self._not_before[address] = request[WAIT_UNTIL]
        elif response.status in (200, 304) and _FAULT not in request:
            self._good[address] += 1
        return response

    def counts(self) -> dict[str, Counter[str]]:
        """``requests``, ``good`` and ``early`` by path and query."""
        return {"requests": self._requests, "good": self._good, "early": self._early}
