"""Merges what several sources say of an episode, and withdraws it when all of them have.

Comes in: candidates, on `episode-candidates`, keyed by the identity of their episode. Goes out: on
`episode-metadata`, one record of each episode, sent when what is published changes. A candidate
whose record does not decode is a dead letter. After a crash candidates come again: what they led
to may not have been sent, so it is sent once more as it is now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from schemas.codec import BadRecordError, RecordCodec
from streams.ingest.core import identity
from streams.ingest.core.identity import Copies, EpisodeRecord
from streams.kafka.message import Message
from streams.runtime.context import Context, decode_all
from streams.runtime.keyed import EntryKey
from topology.tables import COPIES
from topology.topics.ingest import EPISODE_CANDIDATES, EPISODE_METADATA

CANDIDATES_AT_ONCE = 64


class Candidate(NamedTuple):
    """What a source says of an episode: its copy, None if it has withdrawn it."""

    offset: int
    episode_id: str
    source: str
    record: EpisodeRecord | None


def register(context: Context) -> None:
    """Fold candidates as they come into the episodes they belong to."""
    stage = UniteEpisodes(context)
    context.agent(EPISODE_CANDIDATES, max_batch=CANDIDATES_AT_ONCE)(stage.handle_episode_candidates)


class UniteEpisodes:
    """The stage: its handler, and the copies of each episode by its identity."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._codec = RecordCodec(EPISODE_METADATA.name, "episode", context.registry)
        self._copies = context.table(COPIES)

    async def handle_episode_candidates(self, messages: list[Message]) -> None:
        """Merge the candidates of each episode, and publish those in which something changed.

        What is published follows from what was published before, so the copies must be in the log
        first: otherwise what a killed worker published could be withdrawn by candidates that come
        again in one batch with the first ones, and nobody would say so.
        """
        changed: list[tuple[str, EpisodeRecord | None]] = []
        for key, candidates in (await self._by_identity(messages)).items():
            before = self._stored(key)
            after, again = _merged(before, candidates)
            if after is None:
                continue
            if after is not before:
                self._copies.put(*key, identity.encode(after, self._codec.encode))
            record = identity.published(after)
            if again or record != identity.published(before):
                changed.append((after.episode_id, record))
        await self._context.flush()
        for episode_id, record in changed:
            await self._context.send(EPISODE_METADATA, record, key=episode_id)

    async def _by_identity(self, messages: list[Message]) -> dict[EntryKey, list[Candidate]]:
        """Candidates by partition and identity, in the order of the log."""
        groups: dict[EntryKey, list[Candidate]] = {}
        for message, found in await decode_all(self._context, messages):
            try:
                framed = found["record"]
                record = None if framed is None else self._codec.decode(framed)
            except BadRecordError as error:
                await self._context.dead_letter(message, error)
                continue
            candidate = Candidate(message.offset, found["episode_id"], found["source"], record)
            key = message.partition, found["identity"].encode()
            groups.setdefault(key, []).append(candidate)
        return groups

    def _stored(self, key: EntryKey) -> Copies | None:
        value = self._copies.get(*key)
        return None if value is None else identity.decode(value, self._codec.decode)


def _merged(before: Copies | None, candidates: Sequence[Candidate]) -> tuple[Copies | None, bool]:
    """The copies of an episode after its candidates, and whether some of these came again."""
    after, again = before, False
    for offset, episode_id, source, record in candidates:
        if after is not None and offset <= after.offset:
            again = True
            continue
        after = identity.fold(after, offset, episode_id, source, record)
    return after, again
