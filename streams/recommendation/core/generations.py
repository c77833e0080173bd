"""Generations as the log's topics tell of them: held until they are whole, checked, and taken over.

Topics are read in any order, and records may come again. Once all of it is there it
is put together, and from then on can be served at once. One that holds what no list may be made of
is refused, and what was served before goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.vectors import read_vector
from streams.recommendation.core import item_model
from streams.recommendation.core.catalogue import MODEL, Catalogue
from streams.recommendation.core.foldin import Doubles, gram
from streams.recommendation.core.item_model import ItemModel
from streams.recommendation.core.model_records import ForeignRankerError, read_model, read_ranker
from streams.recommendation.core.ranker import Ranker
from streams.recommendation.core.soundness import (
    UnsoundError,
    check_equations,
    check_factors,
    check_model,
)
from streams.recommendation.core.vectors import Vectors

_REFERENCES, _LOOKED_AT = 500, 5_000


@dataclass(frozen=True)
class ListModel:
    """The two stages of a generation, whose episodes have places of their own.

    ``rows`` is the row of each place; ``place_of`` the place of each row that there was when the
    generation was taken over, or -1.
    """

    model: ItemModel
    ranker: Ranker
    rows: NDArray[np.int64]
    place_of: NDArray[np.int64]

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places of some rows, -1 where the generation does not know the episode."""
        known = rows < len(self.place_of)
        return np.where(known, self.place_of[np.where(known, rows, 0)], -1)

    def references(self, present: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Some hundred rows of the generation that are ``present``, evenly spaced, out of at most
        some thousand: what it costs does not grow with the catalogue."""
        some = self.rows[:: max(1, len(self.rows) // _LOOKED_AT)]
        some = some[present[some]]
        return some[:: max(1, len(some) // _REFERENCES)]


@dataclass(frozen=True)
class Factors:
    """The item vectors of one finished training, and what fold-in needs beside them.

    ``gram`` is YᵀY of the vectors, (rank, rank); ``announced_ms`` the log's time of the generation,
    milliseconds since 1970. ``lists`` are its two stages; without them ``unranked_because`` says
    why, as far as that is known.
    """

    generation: str
    vectors: Vectors
    gram: Doubles
    alpha: float
    regularization: float
    announced_ms: int
    lists: ListModel | None = None
    unranked_because: str = ""


class Refusal(NamedTuple):
    """A generation that is refused, why, and the log's time of its record, ms since 1970."""

    generation: str
    because: str
    log_ms: int

    def to_record(self, stage: str) -> dict[str, Any]:
        """The `generation_refusal` record of the stage that refuses it."""
        return {
            "generation": self.generation,
            "refused_by": stage,
            "refused_because": self.because,
            "announced_at": datetime.fromtimestamp(self.log_ms / 1000, UTC),
        }


class _Parts:
    """The records of one generation, as they come, by episode; of factors only the bytes."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.factors: dict[str, bytes] = {}
        self.neighbours: dict[str, dict[str, Any]] = {}
        self.ranker: dict[str, Any] | None = None

    def are_whole(self, record: Mapping[str, Any]) -> bool:
        """Whether as much is here as the generation's record says."""
        neighbours = record.get("neighbours", 0)
        return len(self.factors) >= record["items"] and (
            not neighbours or (len(self.neighbours) >= neighbours and self.ranker is not None)
        )


class Generations:
    """What is held of generations, and which of them is served.

    ``row`` gives the row of an episode, ``rows`` how many there are.
    """

    def __init__(self, row: Callable[[str], int], rows: Callable[[], int]):
        self.serving: Factors | None = None
        self.catalogue = Catalogue()
        self._row, self._rows = row, rows
        self._parts: dict[str, _Parts] = {}
        self._announced: dict[str, tuple[dict[str, Any], int]] = {}
        self._whole: dict[str, Factors] = {}
        self._refusals: list[Refusal] = []
        self._chosen_ms = 0

    def put_factors(self, record: Mapping[str, Any], slot: int = 0) -> None:
        """An `item_factors` record in a slot; used once its generation is announced and whole."""
        if (parts := self._parts_of(record["generation"], slot)) is not None:
            parts.factors[record["episode_id"]] = record["vector"]
            for other in self._others(parts):
                other.factors.pop(record["episode_id"], None)

    def put_neighbours(self, record: Mapping[str, Any], slot: int = 0) -> None:
        """An `item_neighbours` record; used like the factors of its generation."""
        if (parts := self._parts_of(record["generation"], slot)) is not None:
            parts.neighbours[record["episode_id"]] = dict(record)
            for other in self._others(parts):
                other.neighbours.pop(record["episode_id"], None)

    def put_ranker(self, record: Mapping[str, Any], slot: int = 0) -> None:
        """A `ranker` record; used like the factors of its generation."""
        if (parts := self._parts_of(record["generation"], slot)) is not None:
            parts.ranker = dict(record)
            for other in self._others(parts):
                other.ranker = None

    def announce(self, record: Mapping[str, Any], log_ms: int) -> None:
        """A `model_generation` record, with its time in the log."""
        self.catalogue.announce(record)
        if record["model"] == MODEL:
            self._announced[record["generation"]] = (dict(record), log_ms)
            self._drop_old()

    def choose(self, record: Mapping[str, Any], log_ms: int) -> None:
        """A `served_generation` record, with its time in the log."""
        self.catalogue.choose(record)
        self._chosen_ms = log_ms

    @property
    def serving_ms(self) -> int:
        """Since when what serves does, ms of the log's time since 1970; 0 where nothing does."""
        return max(self.serving.announced_ms, self._chosen_ms) if self.serving else 0

    def new_refusals(self) -> list[Refusal]:
        """What was refused since this was last asked."""
        found, self._refusals = self._refusals, []
        return found

    def select(self) -> bool:
        """Serve the best generation of which all is here, if there is one; whether it is another
        than before."""
        self._put_together()
        best = next((name for name in self.catalogue.candidates() if name in self._whole), None)
        before = self.serving
        if best is not None:
            self.serving = self._whole[best]
        self._drop_old()
        return self.serving is not before

    def _parts_of(self, generation: str, slot: int) -> _Parts | None:
        """Where to keep records of a generation; None if they are not needed any more."""
        known = generation in self._announced
        if generation in self._whole or (not known and generation <= self.catalogue.newest):
            return None
        return self._parts.setdefault(generation, _Parts(slot))

    def _others(self, parts: _Parts) -> list[_Parts]:
        """Those that lie in the same slot: a record takes the place of theirs, here as in the
        topic once it is compacted, so that no more is held than is there then."""
        return [one for one in self._parts.values() if one.slot == parts.slot and one is not parts]

    def _put_together(self) -> None:
        """Make what lists are made with of every generation that has become whole."""
        for name, (record, log_ms) in list(self._announced.items()):
            parts = self._parts.get(name)
            if parts is None or not parts.are_whole(record):
                continue
            del self._parts[name]
            try:
                self._whole[name] = self._assemble(record, log_ms, parts)
            except UnsoundError as error:
                self.catalogue.refuse(name)
                self._refusals.append(Refusal(name, str(error), log_ms))

    def _drop_old(self) -> None:
        """Let go of the generations that cannot be served any more: in each slot, those before the
        first that is whole."""
        kept = set[str]()
        for names in self.catalogue.by_slot().values():
            for name in names:
                kept.add(name)
                if name in self._whole:
                    break
        newest = self.catalogue.newest
        self._announced = {n: told for n, told in self._announced.items() if n in kept}
        self._parts = {n: p for n, p in self._parts.items() if n in kept or n > newest}
        self._whole = {n: factors for n, factors in self._whole.items() if n in kept}

    def _assemble(self, record: Mapping[str, Any], log_ms: int, parts: _Parts) -> Factors:
        """What lists are made with. UnsoundError if they may not be made with it."""
        check_equations(record["alpha"], record["regularization"])
        vectors = self._vectors(record, parts)
        matrix, _ = vectors.first(self._rows())
        factors = Factors(
            generation=record["generation"],
            vectors=vectors,
            gram=gram(matrix),
            alpha=record["alpha"],
            regularization=record["regularization"],
            announced_ms=log_ms,
            unranked_because=record.get("unranked_because", ""),
        )
        if not record.get("neighbours", 0) or parts.ranker is None:
            return factors
        try:
            return replace(factors, lists=self._two_stages(record["neighbours"], factors, parts))
        except ForeignRankerError as error:  # its factors are of use all the same
            return replace(factors, unranked_because=str(error))
        except ValueError as error:
            raise UnsoundError(str(error)) from error

    def _vectors(self, record: Mapping[str, Any], parts: _Parts) -> Vectors:
        count, rank = len(parts.factors), record["rank"]
        if count != record["items"]:
            raise UnsoundError(f"factors of {count} items, where {record['items']} are declared")
        if other := {len(value) for value in parts.factors.values()} - {4 * rank}:
            raise UnsoundError(f"factors of {min(other)} bytes, where a rank of {rank} is declared")
        matrix = read_vector(b"".join(parts.factors.values())).reshape(count, rank)
        check_factors(matrix, rank)
        vectors = Vectors(rank)
        for episode_id, vector in zip(parts.factors, matrix, strict=True):
            vectors.put(self._row(episode_id), vector)
        return vectors

    def _two_stages(self, count: int, factors: Factors, parts: _Parts) -> ListModel:
        """The two stages of a generation; ForeignRankerError if this release cannot rank by them,
        another ValueError if nobody can."""
        ranker = read_ranker(parts.ranker or {})
        records = sorted(parts.neighbours.values(), key=itemgetter("place"))
        rows = np.array([self._row(record["episode_id"]) for record in records], np.int64)
        if len(rows) != count:
            raise UnsoundError(f"neighbours of {len(rows)} items, not of {count}")
        matrix, _ = factors.vectors.first(self._rows())
        vectors = matrix[rows]
        of_places = item_model.Factors(
            vectors, gram(vectors), factors.alpha, factors.regularization
        )
        model = read_model(records, count, of_places)
        check_model(model)
        place_of = np.full(self._rows(), -1, dtype=np.int64)
        place_of[rows] = np.arange(count)
        return ListModel(model, ranker, rows, place_of)
