"""What readers ask of `model_generations`: the trainings, and what became of each."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from pymongo.collection import Collection

from streams.recommendation.core.listing import ListedGeneration, listed

MOST_GENERATIONS = 100
"""The newest ones: far more than can be served."""

Documents = Collection[dict[str, Any]]


def generations(trainings: Documents, refusals: Documents) -> list[ListedGeneration]:
    """The latest trainings, newest first, by `model_generations` and `generation_refusals`.

    PyMongoError where the server fails.
    """
    newest = trainings.find().sort("trained_at", -1).limit(MOST_GENERATIONS)
    found = [{**one, "trained_at": one["trained_at"].replace(tzinfo=UTC)} for one in newest]
    names = [one["generation"] for one in found]
    return listed(found, refusals.find({"_id": {"$in": names}}))
