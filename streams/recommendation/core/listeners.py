"""What a listener heard and liked: folded from events, row by row in offset order.

Because it goes row by row and skips offsets that it has seen, the state does not depend on where
batches were cut or on what came twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple

import fastavro
import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas import files
from streams.recommendation.core.confidence import strength

CHANGING_KINDS = frozenset({"play", "progress", "complete", "like", "dislike", "follow", "click"})
"""Kinds that earn a new list; audio heard does so whatever the kind."""

MAX_EPISODES = 5_000
"""Episodes remembered for a listener: beyond it, the one least recently touched is forgotten."""


class ListenerEvent(NamedTuple):
    """The columns of a `user_event` row that count here; ``occurred_at`` in ms since 1970."""

    offset: int
    event_id: str
    user_id: str
    episode_id: str
    kind: str
    occurred_at: int
    heard_ms: int


def events_of(frame: pl.DataFrame) -> Iterator[ListenerEvent]:
    """The rows of a `user_event` batch, in order."""
    columns = {
        "kind": pl.col("kind").cast(pl.String),
        "occurred_at": pl.col("occurred_at").dt.epoch("ms"),
    }
    rows = frame.select(columns.get(name, pl.col(name)) for name in ListenerEvent._fields)
    return map(ListenerEvent._make, rows.iter_rows())


class ListeningTotals(NamedTuple):
    """What a listener did with one episode; ``likes`` is likes minus dislikes."""

    heard_ms: int = 0
    plays: int = 0
    completes: int = 0
    likes: int = 0
    last_at: int = 0

    @property
    def listened(self) -> bool:
        """Whether anything was heard, or played to the end."""
        return self.heard_ms > 0 or self.plays > 0 or self.completes > 0

    @property
    def settled(self) -> bool:
        """Not to be recommended again: listened to, or disliked."""
        return self.listened or self.likes < 0


@dataclass(frozen=True, slots=True)
class ListenerState:
    """The state of one listener. ``generation``: see `listener_state`."""

    offset: int = -1
    last_event_id: str = ""
    generation: str = ""
    episodes: dict[str, ListeningTotals] = field(default_factory=dict)

    def strengths(self) -> NDArray[np.float32]:
        """The strength of each episode, in the order of ``episodes``."""
        columns = np.array([h[:4] for h in self.episodes.values()], dtype=np.float64).reshape(-1, 4)
        heard_ms, plays, completes, likes = columns.T
        return strength(heard_ms, plays, completes, likes)


def changes(event: ListenerEvent) -> bool:
    """Whether an event changes what is recommended to its listener."""
    return event.kind in CHANGING_KINDS or event.heard_ms > 0


def wants_list(applied: int | None, events: Iterable[ListenerEvent]) -> bool:
    """Whether a listener's list is due; ``applied`` is None for one never seen before.

    A repeat is due as well: what it caused may have been lost with the worker that had it first.
    """
    return applied is None or any(changes(e) or e.offset <= applied for e in events)


def fold(listener: ListenerState | None, events: Iterable[ListenerEvent]) -> ListenerState:
    """The state after the events, which come in offset order; those applied before are skipped."""
    state = listener or ListenerState()
    offset, last_event_id, episodes = state.offset, state.last_event_id, dict(state.episodes)
    for event in events:
        if event.offset <= offset:
            continue
        if changes(event):
            before = episodes.get(event.episode_id) or ListeningTotals()
            episodes[event.episode_id] = _add(before, event)
            if len(episodes) > MAX_EPISODES:
                del episodes[min(episodes, key=lambda e: (episodes[e].last_at, e))]
        elif offset >= 0:
            continue
        offset, last_event_id = event.offset, event.event_id
    return replace(state, offset=offset, last_event_id=last_event_id, episodes=episodes)


def is_forgotten(value: bytes | None, up_to: int | None) -> bool:
    """Whether an encoded state is to be dropped, as its listener is forgotten up to an offset.

    One of later events is not: it was made after the listener had been forgotten. Without a state
    there is nothing to keep; ``up_to`` is None for a listener who is not forgotten.
    """
    return up_to is not None and (value is None or peek(value)[0] <= up_to)


def _add(heard: ListeningTotals, event: ListenerEvent) -> ListeningTotals:
    kind = event.kind
    return ListeningTotals(
        heard.heard_ms + event.heard_ms,
        heard.plays + (kind == "play"),
        heard.completes + (kind == "complete"),
        heard.likes + (kind == "like") - (kind == "dislike"),
        max(heard.last_at, event.occurred_at),
    )


@cache
def _schema() -> Any:
    """The declared schema with times as plain integers, which is the same on the wire."""
    return fastavro.parse_schema(_without_logical_types(files.load("listener_state")))


@cache
def _head_schema() -> Any:
    """The fields before the episodes: reading them stops there."""
    schema = _without_logical_types(files.load("listener_state"))
    names = [f["name"] for f in schema["fields"]]
    head = schema["fields"][: names.index("episodes")]
    return fastavro.parse_schema({**schema, "name": "listener_head", "fields": head})


def _without_logical_types(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_logical_types(item) for item in node]
    if isinstance(node, dict):
        return {k: _without_logical_types(v) for k, v in node.items() if k != "logicalType"}
    return node


def encode(listener: ListenerState) -> bytes:
    """`listener_state` as plain Avro bytes, episodes by last event, newest last."""
    newest_last = sorted(listener.episodes.items(), key=lambda item: (item[1].last_at, item[0]))
    record = {
        "offset": listener.offset,
        "last_event_id": listener.last_event_id,
        "generation": listener.generation,
        "episodes": [{"episode_id": e, **h._asdict()} for e, h in newest_last],
    }
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, _schema(), record)
    return buffer.getvalue()


def decode(value: bytes) -> ListenerState:
    """The state in ``value``."""
    record: Any = fastavro.schemaless_reader(BytesIO(value), _schema(), None)
    episodes = {
        h["episode_id"]: ListeningTotals(
            h["heard_ms"], h["plays"], h["completes"], h["likes"], h["last_at"]
        )
        for h in record["episodes"]
    }
    return ListenerState(record["offset"], record["last_event_id"], record["generation"], episodes)


def peek(value: bytes) -> tuple[int, str]:
    """Applied offset and generation of a state, without decoding the episodes."""
    head: Any = fastavro.schemaless_reader(BytesIO(value), _head_schema(), None)
    return head["offset"], head["generation"]
