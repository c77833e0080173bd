"""A generation's neighbours and ranker as records of their topics, and the model out of those.

The coefficients say what they belong to: a release whose tables or features are others cannot
rank by them, and says so instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.vectors import read_vector, vector_bytes
from streams.recommendation.core.item_model import (
    FEATURES,
    NO_EPISODE,
    TABLES,
    Factors,
    ItemModel,
    most_heard,
)
from streams.recommendation.core.ranker import Ranker
from streams.recommendation.core.soundness import check_ranker

RANKER_KEY = "ranker"
"""The key in the topic of rankers: a newer one in the same slot takes the place of an older one."""

_SLOT = "\x1f"
"""Between a key and its slot: no id has control characters."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLACES = np.dtype("<i4")

Record = Mapping[str, Any]


class ForeignRankerError(ValueError):
    """A ranker speaks of tables or features that this release does not have."""


def slot_key(key: str, slot: int) -> str:
    """The key of a record in a slot; in the first it is what it was before there were others."""
    return f"{key}{_SLOT}{slot}" if slot else key


def slot_of(key: str) -> int:
    """The slot that a record's key ends with.

    >>> slot_of(slot_key("my:1", 0)), slot_of(slot_key("my:1", 3))
    (0, 3)
    """
    slot = key.partition(_SLOT)[2]
    return int(slot) if slot.isdecimal() else 0


def neighbour_records(
    model: ItemModel, episode_ids: Sequence[str], generation: str
) -> Iterator[dict[str, Any]]:
    """The `item_neighbours` records of a model; ``episode_ids`` are by index."""
    for place, episode_id in enumerate(episode_ids):
        known = model.neighbours[place] != NO_EPISODE
        yield {
            "episode_id": str(episode_id),
            "generation": generation,
            "place": place,
            "listeners": int(model.listeners[place]),
            "liking": float(model.liking[place]),
            "first_at": _time(model.first_at[place]),
            "last_at": _time(model.last_at[place]),
            "neighbours": model.neighbours[place][known].astype(_PLACES).tobytes(),
            "weights": vector_bytes(model.weights[place][known]),
        }


def ranker_record(ranker: Ranker, generation: str) -> dict[str, Any]:
    """The `ranker` record of a generation."""
    return {
        "generation": generation,
        "tables": list(TABLES),
        "features": list(FEATURES),
        **{name: vector_bytes(part) for name, part in ranker._asdict().items()},
    }


def read_ranker(record: Record) -> Ranker:
    """The ranker of a record.

    ForeignRankerError if it is of other tables or features, another ValueError if its numbers are
    not as many as there should be, or not finite.
    """
    for own, name in ((TABLES, "tables"), (FEATURES, "features")):
        if tuple(record[name]) != own:
            raise ForeignRankerError(f"{name} {record[name]}, and not {list(own)}")
    parts = {name: read_vector(record[name]) for name in Ranker._fields}
    wide, units = len(FEATURES), len(parts["bias"])
    if len(parts["hidden"]) == (wide + 1) * units:
        parts["hidden"] = parts["hidden"].reshape(wide + 1, units)
    ranker = Ranker(**parts)
    check_ranker(ranker, wide)
    return ranker


def read_model(records: Iterable[Record], count: int, factors: Factors) -> ItemModel:
    """The model of ``count`` episodes out of their records, one a place.

    ValueError if one does not hold what it should.
    """
    found = {record["place"]: record for record in records}
    if found.keys() != set(range(count)):
        raise ValueError(f"{len(found)} places of {count}")
    own = [found[place] for place in range(count)]
    near = [np.frombuffer(record["neighbours"], _PLACES) for record in own]
    kept = max((len(one) for one in near), default=0)
    neighbours = np.full((count, kept), NO_EPISODE, dtype=np.int32)
    weights = np.zeros((count, kept, len(TABLES)), dtype=np.float32)
    for place, (one, record) in enumerate(zip(near, own, strict=True)):
        if len(one) and not 0 <= one.min() <= one.max() < count:
            raise ValueError(f"place {place} has neighbours beyond the {count} places")
        neighbours[place, : len(one)] = one
        weights[place, : len(one)] = read_vector(record["weights"]).reshape(len(one), len(TABLES))
    listeners = np.array([record["listeners"] for record in own], dtype=np.float32)
    return ItemModel(
        neighbours=neighbours,
        weights=weights,
        listeners=listeners,
        liking=np.array([record["liking"] for record in own], dtype=np.float32),
        first_at=_times(own, "first_at"),
        last_at=_times(own, "last_at"),
        popular=most_heard(listeners),
        factors=factors,
    )


def _time(ms: np.int64) -> datetime:
    return _EPOCH + timedelta(milliseconds=int(ms))


def _times(records: Sequence[Record], name: str) -> NDArray[np.int64]:
    one = timedelta(milliseconds=1)
    return np.array([(record[name] - _EPOCH) // one for record in records], dtype=np.int64)
