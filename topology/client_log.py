"""What librdkafka tells of its connections, as lines of this process's own log.

By itself it writes to standard error, several lines a second and client while no broker answers.
A client hands its lines on when it is polled.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

AGAIN_AFTER_S = 60.0
"""For so long the same is not told again."""

_AWAY = re.compile(
    r"brokers are down|refused|reset by peer|Disconnected|unreachable|timed out|Failed to resolve",
    re.I,
)
_VARYING = re.compile(r"\[thrd:[^\]]*\]|\(after [^)]*\)|\d+")
_MOST_KINDS = 200


class Sparing(logging.Filter):
    """Lets a line pass once in a while, whichever client it comes from.

    That brokers do not answer is one thing, however many connections say so, and a warning:
    clients try again by themselves.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._clock = clock
        self.told: dict[str, float] = {}
        """When each kind of line passed."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is told."""
        message = record.getMessage()
        kind = _VARYING.sub("", message.partition("] ")[2])
        if _AWAY.search(message):
            kind = "away"
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        now = self._clock()
        if (before := self.told.get(kind)) is not None and now - before < AGAIN_AFTER_S:
            return False
        if len(self.told) >= _MOST_KINDS:
            self.told.clear()
        self.told[kind] = now
        return True


SPARING = Sparing()

client_log = logging.getLogger("rdkafka")
client_log.addFilter(SPARING)
