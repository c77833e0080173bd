"""Which work begins next where it waits for several hosts, some of which are slow."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Work by host: the hosts take turns, and none has more than its part of what is under way."""

    def __init__(self, at_once: int, of_a_host: int) -> None:
        """At most ``at_once`` pieces of work are under way, ``of_a_host`` of them for one host."""
        self._at_once = at_once
        self._of_a_host = of_a_host
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._begun: Counter[str] = Counter()

    def add(self, host: str, work: T) -> None:
        """Let work wait for its turn, behind what waits for its host already."""
        self._waiting.setdefault(host, deque()).append(work)

    def begin(self) -> tuple[str, T] | None:
        """Host and work to begin with now; None if all must wait, or nothing does."""
        if self._begun.total() >= self._at_once:
            return None
        host = next((h for h in self._waiting if self._begun[h] < self._of_a_host), None)
        if host is None:
            return None
        queue = self._waiting[host]
        work = queue.popleft()
        self._waiting.move_to_end(host)
        if not queue:
            del self._waiting[host]
        self._begun[host] += 1
        return host, work

    def end(self, host: str) -> None:
        """Work of a host that `begin` gave is done."""
        self._begun[host] -= 1
        if not self._begun[host]:
            del self._begun[host]
