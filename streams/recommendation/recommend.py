"""Finds candidates for each listener, ranks them by the newest generation, and explains.

In: `user-event-batches`; broadcast: see `streams.recommendation.references`. Out:
`recommendations`, keyed by listener, in the partition of the listener's events;
`generation-refusals`, of generations that no lists may be made with. Reference data comes whole to
every worker; the state of a listener belongs to the partition of its events. A list is always the
whole list, so that sending it again harms nothing; one that hardly differs from what this worker
sent last is not sent. After a training, the lists of all listeners are made anew in the background,
newest active first.

A listener who is forgotten loses state and list at once; the next event begins anew.

Bad input: a message without rows is dead-lettered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from streams.kafka.forgetting import forgetting_of
from streams.kafka.message import Message
from streams.recommendation.core import listeners
from streams.recommendation.core.items import Items
from streams.recommendation.core.listeners import ListenerEvent, ListenerState
from streams.recommendation.core.reasons import explain
from streams.recommendation.core.saying import SaidList, hardly_changed, said_list
from streams.recommendation.core.scoring import Ranked, profile
from streams.recommendation.core.two_stage import make_lists
from streams.recommendation.references import References
from streams.runtime.context import Context, decode_all
from streams.state.keyed_table import StateTable
from streams.state.recent import RecentValues
from topology.tables import LISTENERS
from topology.topics.events import USER_EVENT_BATCHES
from topology.topics.recommendation import GENERATION_REFUSALS, RECOMMENDATIONS

SLICE = 32
"""Listeners scored at once, between which the event loop gets its turn."""

REFRESH_EVERY_S = 0.1
REFRESH_SLICE = 20
"""Listeners refreshed at each turn of the timer: 200 a second."""

MOST_REMEMBERED = 20_000
"""Lists sent lately that are remembered: who comes again later is sent the list in any case."""

PART_DECIMALS = 3
"""Of the parts of a score: more would say nothing, and take half of a record."""


def register(context: Context) -> None:
    """Declare the stage's handlers."""
    Recommender(context)


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
        self._table: StateTable = context.table(LISTENERS)
        self._references = References(context)
        # A list made of an older state must not be sent after one made of a newer state.
        self._turn = asyncio.Lock()
        self._stale: list[tuple[int, int, bytes]] = []
        self._refreshed = ""
        self._said: RecentValues[str, SaidList] = RecentValues(MOST_REMEMBERED)
        context.on_rebalance(self._forget)
        context.agent(USER_EVENT_BATCHES)(self._handle_user_event_batches)
        context.timer(REFRESH_EVERY_S)(self._refresh)

    async def _handle_user_event_batches(self, messages: list[Message]) -> None:
        """New lists for the listeners whose events came."""
        groups = _by_listener(await decode_all(self._context, messages))
        for start in range(0, len(groups), SLICE):
            async with self._turn:
                some = groups[start : start + SLICE]
                for group in some:
                    await self._forget_listener(group)
                due = [d for g in some if (d := self._due(g))]
                for one, state in zip(due, await self._send_lists(due), strict=True):
                    self._table.put(one.partition, one.user_id.encode(), listeners.encode(state))
            await self._context.clock.sleep(0)

    async def _forget_listener(self, group: ListenerEvents) -> None:
        """Drop state and list of a listener who is forgotten, unless later events made them.

        The list is dropped also where there is no state: a kill may have come in between.
        """
        key = group.user_id.encode()
        value = self._table.get(group.partition, key)
        if not listeners.is_forgotten(value, group.forgotten_up_to):
            return
        self._table.delete(group.partition, key)
        self._said.drop(group.user_id)
        await self._context.send(
            RECOMMENDATIONS, None, key=group.user_id, partition=group.partition
        )

    def _due(self, group: ListenerEvents) -> DueList | None:
        """The list that a listener's events ask for, if they ask for one."""
        if not group.events:
            return None
        value = self._table.get(group.partition, group.user_id.encode())
        applied = listeners.peek(value)[0] if value is not None else None
        if not listeners.wants_list(applied, group.events):
            return None
        before = listeners.decode(value) if value is not None else None
        after = listeners.fold(before, group.events)
        return DueList(group.partition, group.user_id, after, after.last_event_id, group.log_ms)

    async def _refresh(self) -> None:
        """Some of the lists that were made with another generation, newest active first; before
        that, tell of those that are refused."""
        while self._references.refusals:
            refused = self._references.refusals.pop()
            await self._context.send(
                GENERATION_REFUSALS,
                refused.to_record(self._context.stage.name),
                key=refused.generation,
            )
        basis = self._references.basis
        if basis != self._refreshed:
            self._refreshed = basis
            self._stale = self._find_stale(basis)
        if not basis or not self._stale:
            return
        async with self._turn:
            due: list[DueList] = []
            values: list[bytes] = []
            while self._stale and len(due) < REFRESH_SLICE:
                _, partition, key = self._stale.pop()
                value = self._table.get(partition, key)
                if value is not None and listeners.peek(value)[1] != basis:
                    due.append(self._refreshed_list(partition, key, value, basis))
                    values.append(value)
            states = await self._send_lists(due)
            # No message comes again for these: a state that is ahead of its list would hide it.
            await self._context.flush()
            for one, value, state in zip(due, values, states, strict=True):
                key = one.user_id.encode()
                if self._table.get(one.partition, key) == value:  # not another worker's meanwhile
                    self._table.put(one.partition, key, listeners.encode(state))

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

    def _forget(self) -> None:
        self._refreshed = ""
        self._stale = []
        # Another worker may have said something else meanwhile.
        self._said.clear()

    async def _send_lists(self, due: Sequence[DueList]) -> list[ListenerState]:
        """Score the lists, send those that changed; the states of their listeners, to be kept."""
        items = self._references.items
        profiles = [profile(one.listener, items) for one in due]
        rankings = make_lists(
            items, profiles, self._references.weights, self._context.settings.recommendation_count
        )
        basis = self._references.basis
        lists, states = [], []
        for one, listener_profile, ranking in zip(due, profiles, rankings, strict=True):
            state = replace(one.listener, generation=basis)
            states.append(state)
            now = said_list(basis, ranking)
            before = self._said.get(one.user_id)
            gone = listener_profile.settled.tolist()
            if before is not None and hardly_changed(before, now, gone, items.candidates):
                continue
            self._said.put(one.user_id, now)
            reasons = explain(items, state, listener_profile, ranking)
            lists.append((one, _record_of(one, items, ranking, reasons)))
        # Only now, as an episode may be withdrawn while a list is being sent.
        for one, made in lists:
            await self._context.send(
                RECOMMENDATIONS, made, key=one.user_id, partition=one.partition
            )
        return states


@dataclass
class ListenerEvents:
    """The events of one listener in offset order, and the log time of the newest.

    They are those after the listener was forgotten, if ``forgotten_up_to`` says that this was.
    """

    partition: int
    user_id: str
    events: list[ListenerEvent] = field(default_factory=list)
    log_ms: int = 0
    forgotten_up_to: int | None = None


def _by_listener(decoded: Sequence[tuple[Message, pl.DataFrame]]) -> list[ListenerEvents]:
    groups: dict[tuple[int, str], ListenerEvents] = {}
    for message, frame in decoded:
        if (forgetting := forgetting_of(message.headers)) is not None:
            place = (message.partition, forgetting.user_id)
            groups[place] = ListenerEvents(*place, forgotten_up_to=forgetting.up_to)
        for event in listeners.events_of(frame):
            place = (message.partition, event.user_id)
            group = groups.setdefault(place, ListenerEvents(*place))
            group.events.append(event)
            group.log_ms = message.timestamp_ms
    return list(groups.values())


def _record_of(
    due: DueList, items: Items, ranking: Sequence[Ranked], reasons: Sequence[str]
) -> dict[str, Any]:
    """The record of `recommendation`."""
    return {
        "user_id": due.user_id,
        "generation": items.factors.generation if items.factors else "",
        "updated_at": due.updated_at,
        "caused_by": due.caused_by,
        "source_partition": due.partition,
        "offset": due.listener.offset,
        "items": [
            {
                "episode_id": items.ids[place.row],
                "title": items.episodes[place.row].title,
                "show": items.episodes[place.row].show,
                "score": place.score,
                "parts": {
                    name: part if part is None else round(part, PART_DECIMALS)
                    for name, part in place.parts._asdict().items()
                },
                "reason": reason,
            }
            for place, reason in zip(ranking, reasons, strict=True)
        ],
    }
