"""What every source of episodes can do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from streams.ingest.core.following import Cursor

Ref = dict[str, Any]
"""An `episode_ref` record, its `record` (if any) not yet encoded: an `Episode`."""

Episode = dict[str, Any]
"""An `episode` record."""


class SourceError(Exception):
    """A source did not give what was asked for, after all retries; the message says why."""


class UnavailableSourceError(SourceError):
    """A source cannot give it now: asking again later may help.

    ``after_s`` is how long the source asks to wait, None if it does not say. ``asked`` is False
    where it was not asked at all, because it is not to be asked now. ``instead`` is a record that
    lacks something, to be taken when no more is to be had.
    """

    def __init__(
        self,
        message: str,
        after_s: float | None = None,
        *,
        asked: bool = True,
        instead: Episode | None = None,
    ) -> None:
        super().__init__(message)
        self.after_s = after_s
        self.asked = asked
        self.instead = instead


class FeedGoneError(SourceError):
    """The publisher says that a feed is gone for good."""


@dataclass(frozen=True, slots=True)
class Found:
    """Episodes that are new, edited or withdrawn, the most wanted first.

    ``cursor`` is where to go on once the refs are in the log.
    """

    refs: list[Ref]
    cursor: Cursor


class Source(Protocol):
    """A source of episodes. ``name`` is what its refs and subscriptions carry as `source`."""

    name: str

    def poll(self, subscription: Mapping[str, Any], cursor: Cursor) -> AsyncIterator[Found]:
        """What has changed since ``cursor`` in what a `feed_subscription` names.

        Nothing if nothing has. Raises SourceError where the source fails, and FeedGoneError where
        asking again is of no use; what was found before that stands.
        """

    async def fetch(self, refs: Sequence[Mapping[str, Any]]) -> dict[str, Episode | SourceError]:
        """The record of each ref, or why there is none, by episode_id; an UnavailableSourceError
        where there may be one later.

        Takes several refs at once because sources answer one request for many episodes.
        """

    async def close(self) -> None:
        """Give back connections; the source may be used again afterwards."""
