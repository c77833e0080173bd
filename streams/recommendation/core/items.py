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
from streams.recommendation.core.generations import Factors, Generations
from streams.recommendation.core.vectors import Vectors
from streams.text.plain_text import MAX_TITLE

UNKNOWN_MS = np.iinfo(np.int64).min


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
        self.generations = Generations(self.row, self.__len__)
        self.overall: dict[int, float] = {}
        self.by_category: dict[str, dict[int, float]] = {}
        self._published: dict[int, int] = {}
        self._embeddings: dict[str, Vectors] = {}
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

    @property
    def factors(self) -> Factors | None:
        """The generation that lists are made with; None before there is one."""
        return self.generations.serving

    def activate(self) -> bool:
        """Take over the generation that is to be served if all of it is here; whether it did."""
        if not self.generations.select():
            return False
        self._forget_candidates()
        return True

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
