"""Why a listener's list is as it is: made anew by the functions of `recommend`, and taken apart.

In: what `recommend` reads, its broadcast topics and the log of its listeners, as they are now.
Nothing is written. A list that was served may be older than what its signals say now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from streams.kafka.clients import to_message
from streams.kafka.log_reader import LogReader, read_all
from streams.kafka.message import Message
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from streams.recommendation.core import listeners
from streams.recommendation.core.listeners import ListenerState
from streams.recommendation.core.reasons import explain
from streams.recommendation.core.scoring import Ranked, Shares, Signals, profile
from streams.recommendation.core.two_stage import make_lists, ranked_weights
from streams.recommendation.references import References
from streams.runtime.clock import SystemClock
from streams.runtime.context import Apply, Context, Handler
from streams.state.log import Headers, S
from streams.state.store import Fold, LogStates, Origin
from topology.graph import build_graph
from topology.model import Table, Topic
from topology.settings import Settings
from topology.tables import LISTENERS

STAGE = "recommend"


@dataclass(frozen=True)
class ExplainedItem:
    """A place in a list. ``parts`` are the signals, 0 to 1, ``earned`` what each contributes to
    ``score``: the signal times its weight, as far as there is a signal."""

    episode_id: str
    title: str
    show: str
    score: float
    parts: Signals
    earned: Shares
    reason: str


@dataclass(frozen=True)
class Explanation:
    """A listener's list as it would be made now. ``episodes_touched``: how many episodes the
    listener did anything with; ``weights`` are of the signals, summing to 1.
    ``unranked_because`` says why the generation has no ranker, as far as that is known."""

    user_id: str
    basis: str
    episodes_touched: int
    weights: Shares
    unranked_because: str
    items: list[ExplainedItem]


def explanation(
    references: References, user_id: str, listener: ListenerState, count: int
) -> Explanation:
    """The first places of a listener's list, by the functions that make the served one."""
    items = references.items
    of_listener = profile(listener, items)
    [ranking] = make_lists(items, [of_listener], references.weights, count)
    ranked = any(place.parts.ranked is not None for place in ranking)
    reasons = explain(items, listener, of_listener, ranking)

    def explained(place: Ranked, reason: str) -> ExplainedItem:
        episode = items.episodes[place.row]
        return ExplainedItem(
            items.ids[place.row],
            episode.title,
            episode.show,
            place.score,
            place.parts,
            place.earned,
            reason,
        )

    return Explanation(
        user_id,
        references.basis,
        len(listener.episodes),
        ranked_weights(references.weights) if ranked else Shares(*references.weights),
        items.factors.unranked_because if items.factors else "",
        [explained(place, reason) for place, reason in zip(ranking, reasons, strict=True)],
    )


async def find_listener(context: Context, user_id: str) -> ListenerState | None:
    """What `recommend` knows of a listener; None if it knows nothing."""
    table = context.table(LISTENERS)
    partitions = range(next(own.partitions for own in context.stage.tables))
    await table.restore(partitions)
    for partition in partitions:
        if (value := table.get(partition, user_id.encode())) is not None:
            return listeners.decode(value)
    return None


def explain_list(settings: Settings, user_id: str, count: int) -> Explanation | None:
    """The list of a listener taken apart, by what the log of an instance says now.

    None for a listener of whom nothing is known. KafkaException where the broker fails.
    """
    context = ReadingContext(settings)
    references = References(context)
    listener = asyncio.run(find_listener(context, user_id))
    if listener is None:
        return None
    read_all(settings.kafka_bootstrap_servers, list(context.broadcasts), context.apply)
    return explanation(references, user_id, listener, count)


class ReadingContext(Context):
    """A context on the logs of an instance whose stages run elsewhere: it only reads."""

    def __init__(self, settings: Settings):
        graph, registry = build_graph(settings.event_partitions), open_registry(settings)
        super().__init__(
            graph.stages[STAGE], settings, registry, Wire(graph, registry), SystemClock()
        )
        self.broadcasts: dict[str, Apply] = {}

    def apply(self, messages: Sequence[Message]) -> None:
        """Hand records of broadcast topics to those who wait for them."""
        by_topic: dict[str, list[Message]] = {}
        for message in messages:
            by_topic.setdefault(message.topic, []).append(message)
        for topic, some in by_topic.items():
            self.broadcasts[topic](some)

    def broadcast(self, topic: Topic, apply: Apply) -> None:
        """Note who waits for the records of a topic."""
        self.broadcasts[topic.name] = apply

    def agent(
        self,
        topic: Topic,
        *,
        max_batch: int = 64,
        linger_s: float = 0.0,
        confirm: Handler | None = None,
    ) -> NoReturn:
        """Nothing is consumed: LookingOnlyError."""
        raise LookingOnlyError(topic.name)

    def timer(self, seconds: float) -> NoReturn:
        """Nothing is done by the clock: LookingOnlyError."""
        raise LookingOnlyError("a timer")

    def owned_fraction(self) -> float:
        """All of the partitions are read."""
        return 1.0

    def on_rebalance(self, callback: Callable[[], None]) -> None:
        """Partitions never move here."""

    def _open(
        self, table: Table, make: Callable[[int], S], origin: Origin[S] | None = None
    ) -> LogStates[S]:
        states = super()._open(table, make, origin)
        states.assign(range(table.partitions))
        return states

    def _state_log(self, topic: str) -> _ReadStateLog:
        return _ReadStateLog(self.settings.kafka_bootstrap_servers, topic)

    async def _send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> NoReturn:
        raise LookingOnlyError(topic)


class LookingOnlyError(RuntimeError):
    """Somebody who only looks would have consumed or written something; the text says what."""


class _ReadStateLog:
    """The log of a table that somebody else writes. Reading it blocks: nothing else runs here."""

    def __init__(self, bootstrap_servers: str, topic: str):
        self.name = topic
        self._bootstrap = bootstrap_servers

    async def end(self, partition: int) -> int:
        with LogReader(self._bootstrap) as logs:
            return logs.bounds(self.name, partition)[1]

    async def replay(self, partition: int, into: Fold) -> tuple[int, int]:
        with LogReader(self._bootstrap) as logs:
            start, end = logs.bounds(self.name, partition)
            for records in logs.span(self.name, partition, start, end):
                for record in records:
                    into.apply(to_message(record))
        return start, end

    def append(self, partition: int, value: bytes, headers: Headers) -> NoReturn:
        raise LookingOnlyError(self.name)

    async def truncate(self, partition: int, offset: int) -> NoReturn:
        raise LookingOnlyError(self.name)
