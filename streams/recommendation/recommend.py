"""`recommend`: folds each listener in, scores by factors, content and trend, blends and explains.

Reference data comes whole to every worker; the state of a listener belongs to the partition of
its events. A list is always the whole list, so that sending it again harms nothing. After a
training, the lists of all listeners are made anew in the background, newest active first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from schemas.codec import BadRecordError
from streams.engagement.core.trending import is_of_a_language, merge_scopes
from streams.kafka.message import Message
from streams.recommendation.core import listeners
from streams.recommendation.core.items import Items
from streams.recommendation.core.listeners import ListenerEvent, ListenerState
from streams.recommendation.core.reasons import explain
from streams.recommendation.core.scoring import ScoreParts, mean_weights, profile, recommend
from streams.runtime.context import Context, decode_all
from streams.state.protocols import StateTable

log = logging.getLogger(__name__)

SLICE = 32
"""Listeners scored at once, between which the event loop gets its turn."""

REFRESH_EVERY_S = 0.1
REFRESH_SLICE = 20
"""Listeners refreshed at each turn of the timer: 200 a second."""

CONTENT = "content"
"""What stands for a generation while there are embeddings and no factors yet."""


class References:
    """What the broadcast topics say."""

    def __init__(self, context: Context):
        self.items = Items()
        self.weights: ScoreParts = mean_weights([])
        self._context = context
        self._rankings: dict[str, dict[int, dict[str, Any]]] = {}
        self._blends: dict[int, dict[str, Any]] = {}
        self._content_ms: int | None = None
        context.broadcast("episode-metadata", self._each(self._episode, self.items.drop_episode))
        context.broadcast("item-factors", self._each(self._factors))
        context.broadcast("model-generations", self._each(self._generation))
        context.broadcast(
            "episode-embeddings", self._each(self._embedding, self.items.drop_embedding)
        )
        context.broadcast("trending-episodes", self._trending)
        context.broadcast("blend-weights", self._blend)

    @property
    def basis(self) -> str:
        """What lists are made with now: a generation, `CONTENT`, or nothing yet."""
        if self.items.factors:
            return self.items.factors.generation
        return CONTENT if self._content_ms is not None else ""

    @property
    def basis_ms(self) -> int:
        """The log time at which the basis became what it is."""
        return self.items.factors.announced_ms if self.items.factors else self._content_ms or 0

    def _records(self, messages: Sequence[Message]) -> Iterator[tuple[Message, dict[str, Any]]]:
        for message in messages:
            try:
                yield message, self._context.decode(message)
            except BadRecordError as error:
                log.warning(
                    "%s[%d]@%d is passed over: %s",
                    message.topic,
                    message.partition,
                    message.offset,
                    error,
                )

    def _each(
        self,
        put: Callable[[Message, dict[str, Any]], None],
        drop: Callable[[str], None] | None = None,
    ) -> Callable[[Sequence[Message]], None]:
        def apply(messages: Sequence[Message]) -> None:
            for message in messages:
                if message.value is not None:
                    for _, record in self._records([message]):
                        put(message, record)
                elif drop is not None and message.key is not None:
                    drop(message.key.decode(errors="replace"))
            if self.items.activate() and self.items.factors:
                log.info("generation %s is active", self.items.factors.generation)

        return apply

    def _episode(self, _: Message, record: dict[str, Any]) -> None:
        self.items.put_episode(record)

    def _factors(self, _: Message, record: dict[str, Any]) -> None:
        self.items.put_factors(record)

    def _generation(self, message: Message, record: dict[str, Any]) -> None:
        self.items.announce(record, message.timestamp_ms)

    def _embedding(self, message: Message, record: dict[str, Any]) -> None:
        self.items.put_embedding(record)
        # Content is worth new lists for everybody once it covers half of the episodes.
        embeddings = self.items.embeddings
        covered = embeddings is not None and embeddings.count * 2 >= len(self.items.episodes)
        if covered and self._content_ms is None:
            self._content_ms = message.timestamp_ms

    def _trending(self, messages: Sequence[Message]) -> None:
        changed = set()
        # The key begins with the scope; there may be hundreds that nobody asks for here.
        keys = [(message.key or b"").decode(errors="replace") for message in messages]
        wanted = [
            message
            for message, key in zip(messages, keys, strict=True)
            if not is_of_a_language(key)
        ]
        for _, record in self._records(wanted):
            self._rankings.setdefault(record["scope"], {})[record["source_partition"]] = record
            changed.add(record["scope"])
        if changed:
            self.items.set_trending(
                {
                    scope: [
                        (place["episode_id"], place["score"])
                        for place in merge_scopes(self._rankings[scope].values())
                    ]
                    for scope in changed
                }
            )

    def _blend(self, messages: Sequence[Message]) -> None:
        for _, record in self._records(messages):
            self._blends[record["source_partition"]] = record
        self.weights = mean_weights(self._blends.values())


@dataclass(frozen=True)
class DueList:
    """A list to compute: whose, from which state, and the trigger that the list shall name."""

    partition: int
    user_id: str
    listener: ListenerState
    caused_by: str
    updated_at: int


class Recommender:
    """The stage's handlers, over what one worker holds."""

    def __init__(self, context: Context):
        self._context = context
        self._table: StateTable = context.table("listeners")
        self._references = References(context)
        # A list made of an older state must not be sent after one made of a newer state.
        self._turn = asyncio.Lock()
        self._stale: list[tuple[int, int, bytes]] = []
        self._refreshed = ""
        context.on_rebalance(self._forget_refresh)

    async def handle_user_event_batches(self, messages: list[Message]) -> None:
        """New lists for the listeners whose events came."""
        groups = _by_listener(await decode_all(self._context, messages))
        for start in range(0, len(groups), SLICE):
            async with self._turn:
                await self._emit([d for g in groups[start : start + SLICE] if (d := self._due(g))])
            await self._context.clock.sleep(0)

    def _due(self, group: ListenerEvents) -> DueList | None:
        """The list that a listener's events ask for, if they ask for one."""
        value = self._table.get(group.partition, group.user_id.encode())
        applied = listeners.peek(value)[0] if value is not None else None
        if not listeners.wants_list(applied, group.events):
            return None
        before = listeners.decode(value) if value is not None else None
        after = listeners.fold(before, group.events)
        return DueList(group.partition, group.user_id, after, after.last_event_id, group.log_ms)

    async def refresh(self) -> None:
        """Some of the lists that were made with an older generation, newest active first."""
        basis = self._references.basis
        if basis != self._refreshed:
            self._refreshed = basis
            self._stale = self._find_stale(basis)
        if not basis or not self._stale:
            return
        async with self._turn:
            due: list[DueList] = []
            while self._stale and len(due) < REFRESH_SLICE:
                _, partition, key = self._stale.pop()
                value = self._table.get(partition, key)
                if value is not None and listeners.peek(value)[1] != basis:
                    due.append(self._refreshed_list(partition, key, value, basis))
            await self._emit(due)

    def _find_stale(self, basis: str) -> list[tuple[int, int, bytes]]:
        """(applied offset, partition, user_id) of the listeners on another basis, newest last."""
        found = []
        for partition in self._table.partitions():
            for key, value in self._table.items(partition):
                offset, generation = listeners.peek(value)
                if generation != basis:
                    found.append((offset, partition, key))
        return sorted(found)

    def _refreshed_list(self, partition: int, key: bytes, value: bytes, basis: str) -> DueList:
        return DueList(
            partition,
            key.decode(),
            listeners.decode(value),
            f"generation:{basis}",
            self._references.basis_ms,
        )

    def _forget_refresh(self) -> None:
        self._refreshed = ""
        self._stale = []

    async def _emit(self, due: Sequence[DueList]) -> None:
        """Score, keep the states and send the lists."""
        items = self._references.items
        profiles = [profile(one.listener, items) for one in due]
        rankings = recommend(
            items, profiles, self._references.weights, self._context.settings.recommendation_count
        )
        basis = self._references.basis
        lists = []
        for one, listener_profile, ranking in zip(due, profiles, rankings, strict=True):
            state = replace(one.listener, generation=basis)
            self._table.put(one.partition, one.user_id.encode(), listeners.encode(state))
            reasons = explain(items, state, listener_profile, ranking)
            made = {
                "user_id": one.user_id,
                "generation": items.factors.generation if items.factors else "",
                "updated_at": one.updated_at,
                "caused_by": one.caused_by,
                "source_partition": one.partition,
                "offset": state.offset,
                "items": [
                    {
                        "episode_id": items.ids[place.row],
                        "title": items.episodes[place.row].title,
                        "show": items.episodes[place.row].show,
                        "score": place.score,
                        "parts": place.parts._asdict(),
                        "reason": reason,
                    }
                    for place, reason in zip(ranking, reasons, strict=True)
                ],
            }
            lists.append((one, made))
        # Only now, as an episode may be withdrawn while a list is being sent.
        for one, made in lists:
            await self._context.send(
                "recommendations", made, key=one.user_id, partition=one.partition
            )


@dataclass
class ListenerEvents:
    """The events of one listener in offset order, and the log time of the newest."""

    partition: int
    user_id: str
    events: list[ListenerEvent]
    log_ms: int


def _by_listener(decoded: Sequence[tuple[Message, pl.DataFrame]]) -> list[ListenerEvents]:
    groups: dict[tuple[int, str], ListenerEvents] = {}
    for message, frame in decoded:
        for event in listeners.events_of(frame):
            place = (message.partition, event.user_id)
            group = groups.setdefault(place, ListenerEvents(*place, [], 0))
            group.events.append(event)
            group.log_ms = message.timestamp_ms
    return list(groups.values())


def register(context: Context) -> None:
    """Declare the stage's handlers."""
    recommender = Recommender(context)
    context.agent("user-event-batches")(recommender.handle_user_event_batches)
    context.timer(REFRESH_EVERY_S)(recommender.refresh)
