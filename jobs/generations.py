"""A trained generation, and how it goes to the log."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.core.acceptance import Worth
from jobs.core.interactions import Interactions
from jobs.core.list_training import ListTraining, Metrics
from schemas.vectors import vector_bytes
from streams.recommendation.core.catalogue import MODEL
from streams.recommendation.core.model_records import (
    RANKER_KEY,
    neighbour_records,
    ranker_record,
    slot_key,
)
from topology.settings import Settings
from topology.topics.recommendation import (
    ITEM_FACTORS,
    ITEM_NEIGHBOURS,
    MODEL_GENERATIONS,
    MODEL_METRICS,
    RANKERS,
)

log = logging.getLogger(__name__)

SEED = 20_260_101


@dataclass(frozen=True)
class Generation:
    """A finished training, as it is published.

    ``items`` are the factors of the episodes of ``pairs``, (m, rank); ``lists`` what lists are
    made with beside them; ``metrics`` the figures on the time split by model and metric;
    ``offsets`` the last source offset that was trained on, by source partition. One that is
    refused says why in ``refused_because``; the records of others lie in a ``slot`` of the topics.
    """

    name: str
    trained_at: dt.datetime
    train_seconds: float
    pairs: Interactions
    items: NDArray[np.float32]
    lists: ListTraining
    metrics: Metrics
    offsets: dict[int, int]
    refused_because: str = ""
    slot: int = 0

    @property
    def worth(self) -> Worth | None:
        """What its lists are worth; None where nobody had enough to be held out."""
        return Worth.of_metrics(self.metrics, self.lists.ranker is not None, len(self.pairs))


class Way(Protocol):
    """A way out to the log, such as `jobs.output.Output`."""

    def send(self, topic: str, record: dict[str, Any] | None, key: str) -> None:
        """Send a record."""

    def flush(self) -> None:
        """Return once all that was sent is delivered."""


def publish(out: Way, settings: Settings, generation: Generation) -> dict[str, Any]:
    """Send a generation, and return its record; of one that is refused, figures and record alone.

    The record comes last, once all that belongs to it is delivered. What it has seen is not
    trained again, so a kill after it could lose them for good.
    """
    refused = bool(generation.refused_because)
    if not refused:
        _send_factors(out, generation)
    neighbours = 0 if refused else _send_lists(out, generation)
    _send_metrics(out, generation)
    out.flush()
    record = _record(settings, generation, neighbours)
    out.send(MODEL_GENERATIONS.name, record, generation.name)
    out.flush()
    _tell(generation)
    return record


def _send_factors(out: Way, generation: Generation) -> None:
    for episode_id, vector in zip(generation.pairs.items, generation.items, strict=True):
        if np.isnan(vector).any():
            continue
        record: dict[str, Any] = {
            "episode_id": str(episode_id),
            "generation": generation.name,
            "vector": vector_bytes(vector),
        }
        out.send(ITEM_FACTORS.name, record, slot_key(str(episode_id), generation.slot))


def _send_lists(out: Way, generation: Generation) -> int:
    """Neighbours and ranker, if there are any; how many records of neighbours."""
    model, ranker = generation.lists.model, generation.lists.ranker
    if model is None or ranker is None:
        return 0
    for record in neighbour_records(model, generation.pairs.items.tolist(), generation.name):
        out.send(ITEM_NEIGHBOURS.name, record, slot_key(record["episode_id"], generation.slot))
    key = slot_key(RANKER_KEY, generation.slot)
    out.send(RANKERS.name, ranker_record(ranker, generation.name), key)
    return len(generation.pairs.items)


def _send_metrics(out: Way, generation: Generation) -> None:
    for model, figures in generation.metrics.items():
        for metric, value in figures.items():
            record = {
                "model": model,
                "generation": generation.name,
                "metric": metric,
                "value": value,
                "at": generation.trained_at,
            }
            out.send(MODEL_METRICS.name, record, f"{model}|{generation.name}|{metric}")


def _record(settings: Settings, generation: Generation, neighbours: int) -> dict[str, Any]:
    """The `model_generation` record."""
    worth = generation.worth
    return {
        "generation": generation.name,
        "model": MODEL,
        "items": int((~np.isnan(generation.items).any(axis=1)).sum()),
        "users": len(generation.pairs.users),
        "interactions": len(generation.pairs),
        "rank": settings.als_rank,
        "alpha": settings.als_alpha,
        "regularization": settings.als_regularization,
        "seed": SEED,
        "offsets": [
            {"source_partition": partition, "offset": offset}
            for partition, offset in sorted(generation.offsets.items())
        ],
        "trained_at": generation.trained_at,
        "train_seconds": generation.train_seconds,
        "metrics": generation.metrics.get(MODEL, {}),
        "neighbours": neighbours,
        "unranked_because": generation.lists.unranked_because,
        "judged": worth.to_record() if worth is not None else None,
        "refused_because": generation.refused_because,
        "slot": generation.slot,
    }


def _tell(generation: Generation) -> None:
    if generation.refused_because:
        log.warning(
            "generation %s is refused and not published, the one before stays in service: %s",
            generation.name,
            generation.refused_because,
        )
        return
    why = generation.lists.unranked_because
    log.info(
        "generation %s: %d pairs, %d items, %.1f s, %s%s",
        generation.name,
        len(generation.pairs),
        len(generation.pairs.items),
        generation.train_seconds,
        generation.metrics,
        why and f"; not ranked: {why}",
    )
