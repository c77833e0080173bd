"""What the recommender knows of the episodes: records, vectors and rankings, in rows.

Every episode has a row number for as long as the process lives; vectors are kept in matrices of
those rows, so that scoring is a few matrix products. Filled by the records of broadcast topics,
in any order and any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.vectors import read_vector
from streams.engagement.core.trending import ALL, category_of
from streams.recommendation.core import item_model
from streams.recommendation.core.foldin import Doubles, Floats, gram
from streams.recommendation.core.item_model import ItemModel
from streams.recommendation.core.model_records import read_model, read_ranker
from streams.recommendation.core.ranker import Ranker
from streams.text.plain_text import MAX_TITLE

UNKNOWN_MS = np.iinfo(np.int64).min
_KEPT_GENERATIONS = 3


class Vectors:
    """One float32 vector a row, for those rows that have one."""

    def __init__(self, dimension: int):
        self._matrix = np.zeros((0, dimension), dtype=np.float32)
        self._present = np.zeros(0, dtype=bool)
        self.count = 0

    def put(self, row: int, vector: Floats) -> None:
        """Set the vector of a row; ValueError if its length is another."""
        if vector.shape != (self._matrix.shape[1],):
            raise ValueError(f"expected {self._matrix.shape[1]} components, got {vector.shape}")
        self._reserve(row + 1)
        self.count += not self._present[row]
        self._matrix[row] = vector
        self._present[row] = True

    def drop(self, row: int) -> None:
        """Forget the vector of a row; nothing happens where it has none."""
        if row < len(self._present) and self._present[row]:
            self._matrix[row] = 0.0
            self._present[row] = False
            self.count -= 1

    def first(self, rows: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Matrix (rows, dimension), zeros where there is no vector, and which rows have one."""
        self._reserve(rows)
        return self._matrix[:rows], self._present[:rows]

    def _reserve(self, rows: int) -> None:
        missing = rows - len(self._present)
        if missing > 0:
            grow = max(missing, len(self._present), 256)
            self._matrix = np.vstack(
                [self._matrix, np.zeros((grow, self._matrix.shape[1]), dtype=np.float32)]
            )
            self._present = np.concatenate([self._present, np.zeros(grow, dtype=bool)])


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


@dataclass(frozen=True)
class Episode:
    """What a list shows of an episode; ``show`` is the title of its show."""

    title: str
    show: str
    categories: tuple[str, ...]


class Items:
    """Episodes in rows. Bytes of vectors are little-endian float32, as on the wire."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.rows: dict[str, int] = {}
        self.episodes: dict[int, Episode] = {}
        self.factors: Factors | None = None
        self.overall: dict[int, float] = {}
        self.by_category: dict[str, dict[int, float]] = {}
        self._published: dict[int, int] = {}
        self._embeddings: dict[str, Vectors] = {}
        self._factor_rows: dict[str, dict[str, Floats]] = {}
        self._neighbours: dict[str, dict[int, dict[str, Any]]] = {}
        self._rankers: dict[str, dict[str, Any]] = {}
        self._announced: dict[str, tuple[dict[str, Any], int]] = {}
        self._order: NDArray[np.int64] | None = None
        self._newest: NDArray[np.int64] | None = None
        self._candidates: NDArray[np.bool_] | None = None
        self._withheld: NDArray[np.int64] | None = None
        self._newest_unknown: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, episode_id: str) -> int:
        """The row of an episode, a new one if it was never heard of."""
        row = self.rows.get(episode_id)
        if row is None:
            row = self.rows[episode_id] = len(self.ids)
            self.ids.append(episode_id)
            self._forget_order()
        return row

    # -- records of the topics -----------------------------------------------------------------

    def put_episode(self, record: Mapping[str, Any]) -> None:
        """An `episode` record: from now on it may be recommended."""
        row = self.row(record["episode_id"])
        # Whoever writes the topic without the sources may write longer ones.
        title, show = record["title"][:MAX_TITLE], record["show_title"][:MAX_TITLE]
        self.episodes[row] = Episode(title, show, tuple(record["categories"]))
        published: datetime | None = record["published_at"]
        self._published[row] = int(published.timestamp() * 1000) if published else UNKNOWN_MS
        self._forget_order()

    def drop_episode(self, episode_id: str) -> None:
        """The episode's record was deleted: it is no candidate any more."""
        self.episodes.pop(self.row(episode_id), None)
        self._forget_candidates()

    def put_embedding(self, record: Mapping[str, Any]) -> None:
        """An `episode_embedding` record; vectors of different models are kept apart."""
        vector = read_vector(record["vector"])
        model = f"{record['model']}/{len(vector)}"
        vectors = self._embeddings.setdefault(model, Vectors(len(vector)))
        vectors.put(self.row(record["episode_id"]), vector)

    def drop_embedding(self, episode_id: str) -> None:
        """Forget the text vectors of an episode, those of every model."""
        for vectors in self._embeddings.values():
            vectors.drop(self.row(episode_id))

    @property
    def embeddings(self) -> Vectors | None:
        """The vectors of the model that covers most episodes."""
        if not self._embeddings:
            return None
        return self._embeddings[max(self._embeddings, key=lambda m: (self._embeddings[m].count, m))]

    def put_factors(self, record: Mapping[str, Any]) -> None:
        """An `item_factors` record; used once its generation is announced and whole."""
        if self._is_newer(record):
            of_generation = _of_generation(self._factor_rows, record["generation"], dict)
            of_generation[record["episode_id"]] = read_vector(record["vector"])

    def put_neighbours(self, record: Mapping[str, Any]) -> None:
        """An `item_neighbours` record; used like the factors of its generation."""
        if self._is_newer(record):
            of_generation = _of_generation(self._neighbours, record["generation"], dict)
            of_generation[record["place"]] = dict(record)

    def put_ranker(self, record: Mapping[str, Any]) -> None:
        """A `ranker` record; used like the factors of its generation."""
        if self._is_newer(record):
            _of_generation(self._rankers, record["generation"], dict).update(record)

    def _is_newer(self, record: Mapping[str, Any]) -> bool:
        return self.factors is None or record["generation"] > self.factors.generation

    def announce(self, record: Mapping[str, Any], log_ms: int) -> None:
        """A `model_generation` record, with its time in the log."""
        if record["model"] == "als":
            self._announced[record["generation"]] = (dict(record), log_ms)

    def activate(self) -> bool:
        """Take over the newest announced generation of which all is here; whether it did."""
        current = self.factors.generation if self.factors else ""
        for generation in sorted(self._announced, reverse=True):
            record, log_ms = self._announced[generation]
            if generation > current and self._is_whole(record):
                self.factors = self._assemble(record, log_ms)
                for kept in (self._factor_rows, self._neighbours, self._rankers, self._announced):
                    for old in [g for g in kept if g <= generation]:
                        del kept[old]
                self._forget_candidates()
                return True
        return False

    def _is_whole(self, record: Mapping[str, Any]) -> bool:
        generation = record["generation"]
        if not 0 < record["items"] <= len(self._factor_rows.get(generation, ())):
            return False
        neighbours = record.get("neighbours", 0)
        known = len(self._neighbours.get(generation, ()))
        return not neighbours or (neighbours <= known and generation in self._rankers)

    def _assemble(self, record: Mapping[str, Any], log_ms: int) -> Factors:
        by_episode = self._factor_rows[record["generation"]]
        vectors = Vectors(record["rank"])
        for episode_id, vector in by_episode.items():
            vectors.put(self.row(episode_id), vector)
        matrix, _ = vectors.first(len(self))
        factors = Factors(
            generation=record["generation"],
            vectors=vectors,
            gram=gram(matrix),
            alpha=record["alpha"],
            regularization=record["regularization"],
            announced_ms=log_ms,
            unranked_because=record.get("unranked_because", ""),
        )
        if not record.get("neighbours", 0):
            return factors
        try:
            return replace(factors, lists=self._two_stages(record["neighbours"], factors))
        except ValueError as error:  # of another release: its factors are of use all the same
            return replace(factors, unranked_because=str(error))

    def _two_stages(self, count: int, factors: Factors) -> ListModel:
        """The two stages of a generation; ValueError if this release cannot rank by them."""
        ranker = read_ranker(self._rankers[factors.generation])
        records = self._neighbours[factors.generation]
        rows = np.array([self.row(records[at]["episode_id"]) for at in sorted(records)], np.int64)
        matrix, _ = factors.vectors.first(len(self))
        vectors = matrix[rows]
        of_places = item_model.Factors(
            vectors, gram(vectors), factors.alpha, factors.regularization
        )
        model = read_model(records.values(), count, of_places)
        place_of = np.full(len(self), -1, dtype=np.int64)
        place_of[rows] = np.arange(count)
        return ListModel(model, ranker, rows, place_of)

    def set_trending(self, scopes: Mapping[str, Iterable[tuple[str, float]]]) -> None:
        """Replace the merged rankings of these scopes: (episode_id, score), scaled to 1 at the
        top. Only the overall ranking and those of categories are used."""
        scaled = {scope: self._scaled(ranking) for scope, ranking in scopes.items()}
        self.overall = scaled.pop(ALL, self.overall)
        by_category = self.by_category | {
            category: ranking
            for scope, ranking in scaled.items()
            if (category := category_of(scope)) is not None
        }
        self.by_category = dict(sorted(by_category.items()))

    def _scaled(self, ranking: Iterable[tuple[str, float]]) -> dict[int, float]:
        scores = {self.row(episode_id): score for episode_id, score in ranking if score > 0}
        best = max(scores.values(), default=1.0)
        return {row: score / best for row, score in scores.items()}

    # -- for scoring ---------------------------------------------------------------------------

    @property
    def candidates(self) -> NDArray[np.bool_]:
        """Which rows are episodes whose record is known."""
        if self._candidates is None:
            self._candidates = np.zeros(len(self), dtype=bool)
            self._candidates[list(self.episodes)] = True
        return self._candidates

    @property
    def order(self) -> NDArray[np.int64]:
        """The place of each row among all: newest first, then by episode_id. Breaks ties."""
        if self._order is None:
            published = self._published
            by_place = sorted(
                range(len(self)), key=lambda r: (-published.get(r, UNKNOWN_MS), self.ids[r])
            )
            self._newest = np.array(by_place, dtype=np.int64)
            self._order = np.empty(len(self), dtype=np.int64)
            self._order[by_place] = np.arange(len(self))
        return self._order

    @property
    def newest(self) -> NDArray[np.int64]:
        """All rows in the order of their places in `order`."""
        if self._order is None or self._newest is None:
            return np.argsort(self.order)
        return self._newest

    @property
    def newest_unknown(self) -> NDArray[np.int64]:
        """Candidates that the two stages of the generation do not know, newest first."""
        lists = self.factors.lists if self.factors else None
        if self._newest_unknown is None:
            rows = self.newest[self.candidates[self.newest]]
            self._newest_unknown = rows[lists.places(rows) < 0] if lists else rows
        return self._newest_unknown

    @property
    def withheld(self) -> NDArray[np.int64]:
        """Places in the generation of episodes that are no candidates."""
        lists = self.factors.lists if self.factors else None
        if self._withheld is None:
            none = np.zeros(0, dtype=np.int64)
            self._withheld = np.flatnonzero(~self.candidates[lists.rows]) if lists else none
        return self._withheld

    def _forget_order(self) -> None:
        self._order = self._newest = None
        self._forget_candidates()

    def _forget_candidates(self) -> None:
        self._candidates = self._withheld = self._newest_unknown = None


T = TypeVar("T")


def _of_generation(kept: dict[str, T], generation: str, empty: Callable[[], T]) -> T:
    """What is kept of a generation, of which there are only the newest."""
    found = kept.setdefault(generation, empty())
    for old in sorted(kept)[:-_KEPT_GENERATIONS]:
        del kept[old]
    return found
