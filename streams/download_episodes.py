"""Gets the full record of each announced episode and passes it on to `episode-candidates`.

A reference that carries its record, or says that the episode is withdrawn, needs no fetching.
Which episodes are there, and under which identity, is kept: an episode is fetched once, again if
it was edited or comes back, and stays the episode it is when its publisher moves its sound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum
from typing import Any

from schemas.codec import BadRecordError, RecordCodec
from streams.context import Context, Message, decode_all
from streams.core.identity import identity_of
from streams.politeness import report_hosts
from streams.sources.base import Episode, SourceError
from streams.sources.configured import configured_sources

REFS_AT_ONCE = 20
EDIT = "edit"
"""`found_by` of an episode that is known and has changed."""

Place = tuple[Message, dict[str, Any]]
"""A message and the `episode_ref` in it."""

Fetched = dict[tuple[str, str], Episode | SourceError]
"""By source and episode_id: the record, or why there is none."""


class Step(Enum):
    """What a reference asks for."""

    FETCH = "fetch"
    TAKE = "take the record that it carries"
    WITHDRAW = "withdraw"


def register(context: Context) -> None:
    """Take refs as they come, up to 20 at once; one that fails goes to the dead-letter topic."""
    report_hosts(context)
    downloads = Downloads(context)
    context.agent("episode-ids", max_batch=REFS_AT_ONCE)(downloads.take)


class Downloads:
    """The stage's handler. Its table holds, by episode_id, `+` or `-` (withdrawn) and identity."""

    def __init__(self, context: Context):
        self._context = context
        self._sources = configured_sources(context.settings)
        self._codec = RecordCodec("episode-metadata", "episode", context.registry)
        self._table = context.table("downloads")

    async def take(self, messages: list[Message]) -> None:
        """Send what the refs ask for, in their order, and only then remember that it was sent."""
        steps = self._plan(await decode_all(self._context, messages))
        fetched = await self._fetch([place for step, place in steps if step is Step.FETCH])
        known: dict[tuple[int, str], tuple[bool, str]] = {}
        for step, (message, ref) in steps:
            try:
                episode = self._episode(step, ref, fetched)
                framed = None if episode is None else self._codec.encode(episode)
            except (SourceError, BadRecordError) as error:
                await self._context.dead_letter(message, error)
                continue
            place = (message.partition, ref["episode_id"])
            _, identity = known.get(place) or self._known(*place)
            if episode is not None:
                identity = identity or identity_of(episode)
            elif not identity:
                continue  # withdrawn before it was ever there
            known[place] = (episode is not None, identity)
            candidate = {
                "identity": identity,
                "episode_id": ref["episode_id"],
                "source": ref["source"],
                "record": framed,
            }
            await self._context.send("episode-candidates", candidate, key=candidate["identity"])
        await self._context.delivered()
        for (partition, episode_id), (there, identity) in known.items():
            value = (b"+" if there else b"-") + identity.encode()
            if self._table.get(partition, episode_id.encode()) != value:
                self._table.put(partition, episode_id.encode(), value)

    def _known(self, partition: int, episode_id: str) -> tuple[bool, str]:
        """Whether an episode is there, and its identity, empty if it never was."""
        value = self._table.get(partition, episode_id.encode()) or b"-"
        return value.startswith(b"+"), value[1:].decode()

    def _plan(self, places: Sequence[Place]) -> list[tuple[Step, Place]]:
        """What to do for each ref; those of episodes that are there ask for nothing."""
        steps: list[tuple[Step, Place]] = []
        gone: set[tuple[int, str]] = set()
        for message, ref in places:
            key = (message.partition, ref["episode_id"])
            if ref["withdrawn"]:
                steps.append((Step.WITHDRAW, (message, ref)))
                gone.add(key)
            elif ref["record"] is not None:
                steps.append((Step.TAKE, (message, ref)))
            elif ref["found_by"] == EDIT or key in gone or not self._known(*key)[0]:
                steps.append((Step.FETCH, (message, ref)))
        return steps

    def _episode(self, step: Step, ref: dict[str, Any], fetched: Fetched) -> Episode | None:
        """The `episode` that a ref leads to, None if it is withdrawn.

        SourceError or BadRecordError if there is none.
        """
        if step is Step.WITHDRAW:
            return None
        if step is Step.TAKE:
            episode = self._codec.decode(ref["record"])
            if episode["episode_id"] != ref["episode_id"]:
                raise BadRecordError(f"the record is that of {episode['episode_id']}")
            return episode
        found = fetched[ref["source"], ref["episode_id"]]
        if isinstance(found, SourceError):
            raise found
        return found

    async def _fetch(self, places: Sequence[Place]) -> Fetched:
        """Ask every source once for all that is wanted of it."""
        wanted: dict[str, dict[str, dict[str, Any]]] = {}
        for _, ref in places:
            wanted.setdefault(ref["source"], {})[ref["episode_id"]] = ref
        asked = (self._ask(name, list(refs.values())) for name, refs in wanted.items())
        answers = await asyncio.gather(*asked)
        return {
            (name, episode_id): found
            for name, answer in zip(wanted, answers, strict=True)
            for episode_id, found in answer.items()
        }

    async def _ask(
        self, name: str, refs: Sequence[dict[str, Any]]
    ) -> dict[str, Episode | SourceError]:
        source = self._sources.get(name)
        if source is None:
            error = SourceError(f"source {name!r} is not configured")
            return {ref["episode_id"]: error for ref in refs}
        try:
            return await source.fetch(refs)
        finally:
            await source.close()
