"""A circuit breaker for each host that is asked: its failures, and when it may be asked again.

A host that keeps failing is left alone for a while (its circuit is open); then one request at a
time is let through as a probe, and the first that succeeds closes the circuit. Well-kept
libraries for this (`purgatory`, `circuitbreaker`) let every waiting request through at once as
soon as the time is over, always wait equally long, and take no clock; hence these lines.
"""

from __future__ import annotations

import email.utils
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from streams.text.plain_text import clean

FAILURES_TO_OPEN = 5
"""Failures in a row after which a circuit opens."""
FIRST_OPEN_S = 30.0
LONGEST_OPEN_S = 1800.0
LONGEST_ASKED_S = 86_400.0
"""A host that asks for more than a day of silence gets a day."""

Circuit = Literal["closed", "open", "probing"]


@dataclass
class HostState:
    """One host as one worker sees it; times are Unix seconds, given by the caller."""

    host: str
    rest_s: float = FIRST_OPEN_S
    """How long the first rest is; each further one is twice as long."""
    requests: int = 0
    failures: int = 0
    rejected: int = 0
    """Answers 429: too many requests."""
    in_a_row: int = 0
    open_until: float = 0.0
    asked_until: float = 0.0
    probing: bool = False
    last_error: str = ""
    last_used: float = 0.0

    def circuit(self, now: float) -> Circuit:
        """Closed: it is asked; open: it is left alone; probing: one request may try it."""
        if self.in_a_row < FAILURES_TO_OPEN:
            return "closed"
        return "open" if now < self.open_until else "probing"

    def next_at(self) -> float:
        """When the host may be asked again, as far as it is known."""
        return max(self.asked_until, self.open_until)

    def refusal(self, now: float) -> str | None:
        """Why the host may not be asked now; None if it may."""
        circuit = self.circuit(now)
        if circuit == "open":
            return (
                f"circuit open until {utc_text(self.open_until)} after {self.in_a_row} failures in "
                f"a row of {self.host}, the last: {self.last_error}"
            )
        if circuit == "probing" and self.probing:
            return (
                f"circuit open until a probe of {self.host} succeeds; one is under way after "
                f"{self.in_a_row} failures in a row, the last: {self.last_error}"
            )
        if now < self.asked_until:
            return f"{self.host} asked to be left alone until {utc_text(self.asked_until)}"
        return None

    def begin(self, now: float) -> None:
        """A request goes out; `refusal` has been asked."""
        self.requests += 1
        self.last_used = now
        self.probing = self.circuit(now) == "probing"

    def succeeded(self) -> None:
        """The host has answered as it should; its circuit closes."""
        self.in_a_row, self.open_until, self.probing = 0, 0.0, False

    def failed(self, now: float, error: str) -> None:
        """A failure of the host or of the way to it, not of what was asked for."""
        self.failures += 1
        self.last_error = clean(error)[:200]
        self.probing = False
        if now < self.open_until:
            return  # it was under way when the circuit opened, and says nothing new
        self.in_a_row += 1
        if self.in_a_row >= FAILURES_TO_OPEN:
            again = self.in_a_row - FAILURES_TO_OPEN
            open_s = min(self.rest_s * 2.0 ** min(again, 30), LONGEST_OPEN_S)
            self.open_until = now + open_s * jitter(self.host, self.in_a_row)

    def cancelled(self) -> None:
        """A request was cancelled without a result, which says nothing about the host."""
        self.probing = False

    def asked(self, now: float, wait_s: float) -> None:
        """The host asks to be left alone for as long as `retry_after_s` says."""
        self.asked_until = max(self.asked_until, now + wait_s)

    def is_troubled(self, now: float) -> bool:
        """Whether the host has failed lately, or is to be left alone now."""
        return self.in_a_row > 0 or now < self.next_at()


def jitter(name: str, number: int) -> float:
    """A factor from 0.8 to 1.2 that follows from its arguments, so that waits do not end at once
    for many, and end at the same time at a second look."""
    return 0.8 + 0.4 * (zlib.crc32(f"{name}|{number}".encode()) % 10_000) / 10_000


def retry_after_s(value: str | None, now: float) -> float | None:
    """Seconds to wait that a Retry-After header asks for: a number, or an HTTP date.

    None where there is none, or nothing that can be read; never negative, and a day at most:
    there are years that no date of ours can hold.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:12]), LONGEST_ASKED_S)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    asked_s = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
    return min(max(asked_s, 0.0), LONGEST_ASKED_S)


def utc_text(at: float) -> str:
    """A time in Unix seconds as people read it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def host_record(state: HostState, worker: str, rate: float | None, now: float) -> dict[str, Any]:
    """The `source_host` record of a host; ``rate`` is the worker's part, None without limit."""
    next_at = state.next_at()
    return {
        "worker": worker,
        "host": state.host,
        "requests": state.requests,
        "failures": state.failures,
        "rejected": state.rejected,
        "circuit": state.circuit(now),
        "next_at": datetime.fromtimestamp(next_at, UTC) if next_at > now else None,
        "rate": rate,
        "last_error": state.last_error if state.is_troubled(now) else "",
        "at": datetime.fromtimestamp(now, UTC),
    }
