"""Wait for something to become true, and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    timeout_s: float,
    what: str,
    *,
    every_s: float = 0.1,
    check: Callable[[], object] = lambda: None,
) -> T:
    """The first true value of ``condition``, looked at every so many seconds.

    Fails with ``what`` after ``timeout_s``; ``check`` may fail before, with a better reason.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if value := condition():
            return value
        check()
        if time.monotonic() >= deadline:
            pytest.fail(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(every_s)


def wait_for_rest(
    look: Callable[[], object],
    quiet_s: float,
    timeout_s: float,
    what: str,
    *,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Return once ``look`` has given the same for so many seconds; fail as `wait_until` does."""
    seen, since = look(), time.monotonic()

    def rested() -> bool:
        nonlocal seen, since
        if (now := look()) != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since >= quiet_s

    wait_until(rested, timeout_s, what, every_s=0.2, check=check)
