"""How long a stage waits that has failed some times in a row."""

from __future__ import annotations

FIRST_S = 15.0
LONGEST_S = 3600.0
LONGEST_ERROR = 500
"""Most characters of an error that are told."""


def wait_s(attempts: int) -> float:
    """Seconds before the next attempt: doubled by each failure, up to an hour; 0 after none."""
    if attempts < 1:
        return 0.0
    return float(min(FIRST_S * 2 ** min(attempts - 1, 16), LONGEST_S))


def told(error: BaseException) -> str:
    """An exception in one line: its kind, and the first line that it says."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    kind = type(error).__name__
    return (f"{kind}: {said}" if said else kind)[:LONGEST_ERROR]
