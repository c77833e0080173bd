"""What readers ask of `model_generations`: the trainings, and what became of each."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any

from pymongo.collection import Collection

from streams.recommendation.core.catalogue import MODEL
from streams.recommendation.core.listing import ListedGeneration, listed

MOST_GENERATIONS = 100
"""The newest ones: far more than can be served."""

Documents = Collection[dict[str, Any]]


COLLECTIONS = ("model_generations", "generation_refusals", "served_generation")


def generations(collection: Callable[[str], Documents], kept: int) -> list[ListedGeneration]:
    """The latest trainings, newest first, and the one that was chosen to serve, where so many are
    ``kept``; ``collection`` opens one of `COLLECTIONS`. PyMongoError where the server fails."""
    trainings, refusals, choices = map(collection, COLLECTIONS)
    choice = choices.find_one({"_id": MODEL})
    told = list(trainings.find().sort("trained_at", -1).limit(MOST_GENERATIONS))
    if choice is not None:
        told += trainings.find({"_id": choice["generation"]})
    known = {one["_id"]: one for one in told}
    if not known:
        return []
    found = [{**one, "trained_at": one["trained_at"].replace(tzinfo=UTC)} for one in known.values()]
    refused = refusals.find({"_id": {"$in": list(known)}})
    return listed(found, refused, choice, kept)
