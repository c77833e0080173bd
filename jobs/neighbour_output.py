"""What the driver says of neighbours: the episodes nearest to each episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from sys import intern
from typing import Any

from jobs.core.neighbours import nearest
from jobs.core.vector_index import VectorIndex
from jobs.output import Output
from topology.topics.similarity import EPISODE_NEIGHBOURS

NEIGHBOURS = 20


class NeighbourOutput:
    """The lists of neighbours as they were sent last, by one model; whom each of them names."""

    def __init__(self, output: Output, model: str, index: VectorIndex):
        self._output = output
        self._model = model
        self._index = index
        self._named: dict[str, tuple[str, ...]] = {}

    def restore(self, episode_id: str, record: Mapping[str, Any] | None) -> None:
        """Take over what is in `episode-neighbours`, in the order of the log."""
        self._named.pop(episode_id, None)
        if record is not None and record["model"] == self._model:
            self._put(episode_id, [near["episode_id"] for near in record["neighbours"]])

    def _put(self, episode_id: str, named: Sequence[str]) -> None:
        self._named[intern(episode_id)] = tuple(map(intern, named))

    def missing(self) -> list[str]:
        """Known episodes without a list."""
        return [episode_id for episode_id in self._index.ids if episode_id not in self._named]

    def naming(self, episode_ids: AbstractSet[str]) -> list[str]:
        """Known episodes whose lists name any of these, in the order of their ids."""
        return sorted(
            owner
            for owner, named in self._named.items()
            if owner in self._index and not episode_ids.isdisjoint(named)
        )

    def send(self, episode_ids: Sequence[str]) -> None:
        """Send the lists of known episodes as they are now."""
        rows = [self._index.row(episode_id) for episode_id in episode_ids]
        lists = nearest(self._index.ids, self._index.vectors, rows, NEIGHBOURS)
        for episode_id, near in zip(episode_ids, lists, strict=True):
            record = {
                "episode_id": episode_id,
                "model": self._model,
                "neighbours": [{"episode_id": other, "score": score} for other, score in near],
            }
            self._output.send(EPISODE_NEIGHBOURS.name, record, episode_id)
            self._put(episode_id, [other for other, _ in near])

    def withdraw(self, episode_id: str) -> None:
        """The episode has no neighbours any more."""
        self._named.pop(episode_id, None)
        self._output.send(EPISODE_NEIGHBOURS.name, None, episode_id)
