"""Tells how far something is: a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

_LINE_EVERY_S = 10.0


class Step:
    """One step under way; ``tell`` says what it is at."""

    def __init__(self, console: Console, title: str, status: Status | None):
        self._console = console
        self._title = title
        self._status = status
        self._told = self.started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self.started

    def tell(self, news: str) -> None:
        """Show ``news`` at once on a terminal; elsewhere a line now and then."""
        if self._status is not None:
            self._status.update(f"{self._title}: {news} ({self.elapsed_s:.0f} s)")
        elif time.monotonic() - self._told >= _LINE_EVERY_S:
            self._told = time.monotonic()
            self._console.print(f"  {self._title}: {news} ({self.elapsed_s:.0f} s)", markup=False)


@contextmanager
def step(console: Console, title: str) -> Iterator[Step]:
    """Announce a step, and when it is done how long it took."""
    status = console.status(title) if console.is_terminal else None
    if status is None:
        console.print(f"  {title} …", markup=False)
    else:
        status.start()
    current = Step(console, title, status)
    done = False
    try:
        yield current
        done = True
    finally:
        if status is not None:
            status.stop()
        mark = "[green]✓[/green]" if done else "[red]✗[/red]"
        console.print(f"{mark} {title} [dim]({current.elapsed_s:.1f} s)[/dim]", highlight=False)
