"""What every source of episodes can do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

Ref = dict[str, Any]
"""An `episode_ref` record."""

Episode = dict[str, Any]
"""An `episode` record."""


class SourceError(Exception):
    """A source did not give what was asked for, after all retries; the message says why."""


class Source(Protocol):
    """A source of episodes. ``name`` is what its refs carry as `source`."""

    name: str

    def discover(self) -> AsyncIterator[list[Ref]]:
        """Batches of refs, the most wanted first. Raises SourceError where the source fails."""

    async def fetch(self, refs: Sequence[Mapping[str, Any]]) -> dict[str, Episode | SourceError]:
        """The record of each ref, or why there is none, by episode_id.

        Takes several refs at once because sources answer one request for many episodes.
        """

    async def close(self) -> None:
        """Give back connections; the source may be used again afterwards."""
