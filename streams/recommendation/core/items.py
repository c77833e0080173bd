"""What the recommender knows of the episodes: records, vectors and rankings, in rows.

Every episode has a row number for as long as the process lives; vectors are kept in matrices of
those rows, so that scoring is a few matrix products. Filled by the records of broadcast topics,
in any order and any number of times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.vectors import read_vector
from streams.engagement.core.trending import ALL, category_of
from streams.recommendation.core.foldin import Doubles, Floats, gram
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


@dataclass(frozen=True)
class Factors:
    """The item vectors of one finished training, and what fold-in needs beside them.

    ``gram`` is YᵀY of the vectors, (rank, rank); ``announced_ms`` the log's time of the generation,
    milliseconds since 1970.
    """

    generation: str
    vectors: Vectors
    gram: Doubles
    alpha: float
    regularization: float
    announced_ms: int


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
        self._announced: dict[str, tuple[dict[str, Any], int]] = {}
        self._order: NDArray[np.int64] | None = None
        self._candidates: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, episode_id: str) -> int:
        """The row of an episode, a new one if it was never heard of."""
        row = self.rows.get(episode_id)
        if row is None:
            row = self.rows[episode_id] = len(self.ids)
            self.ids.append(episode_id)
            self._order = self._candidates = None
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
        self._order = self._candidates = None

    def drop_episode(self, episode_id: str) -> None:
        """The episode's record was deleted: it is no candidate any more."""
        self.episodes.pop(self.row(episode_id), None)
        self._candidates = None

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
        generation = record["generation"]
        if self.factors is not None and generation <= self.factors.generation:
            return
        vector = read_vector(record["vector"])
        self._factor_rows.setdefault(generation, {})[record["episode_id"]] = vector
        for old in sorted(self._factor_rows)[:-_KEPT_GENERATIONS]:
            del self._factor_rows[old]

    def announce(self, record: Mapping[str, Any], log_ms: int) -> None:
        """A `model_generation` record, with its time in the log."""
        if record["model"] == "als":
            self._announced[record["generation"]] = (dict(record), log_ms)

    def activate(self) -> bool:
        """Take over the newest announced generation whose factors are all here; whether it did."""
        current = self.factors.generation if self.factors else ""
        for generation in sorted(self._announced, reverse=True):
            record, log_ms = self._announced[generation]
            vectors = self._factor_rows.get(generation, {})
            if generation > current and 0 < record["items"] <= len(vectors):
                self.factors = self._assemble(record, vectors, log_ms)
                for kept in (self._factor_rows, self._announced):
                    for old in [g for g in kept if g <= generation]:
                        del kept[old]
                return True
        return False

    def _assemble(
        self, record: Mapping[str, Any], by_episode: Mapping[str, Floats], log_ms: int
    ) -> Factors:
        vectors = Vectors(record["rank"])
        for episode_id, vector in by_episode.items():
            vectors.put(self.row(episode_id), vector)
        matrix, _ = vectors.first(len(self))
        return Factors(
            generation=record["generation"],
            vectors=vectors,
            gram=gram(matrix),
            alpha=record["alpha"],
            regularization=record["regularization"],
            announced_ms=log_ms,
        )

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
            self._order = np.empty(len(self), dtype=np.int64)
            self._order[by_place] = np.arange(len(self))
        return self._order
