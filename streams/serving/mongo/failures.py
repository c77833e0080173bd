"""What readers ask of `stage_failures`."""

from __future__ import annotations

from typing import Any

from pymongo.collection import Collection

MOST_STAGES = 100


def failing(failures: Collection[dict[str, Any]]) -> list[dict[str, Any]]:
    """The stages whose latest attempt failed, by name. PyMongoError where the server fails.

    A first attempt that is under way is no failure yet.
    """
    return [
        document
        for document in failures.find().sort("_id", 1).limit(MOST_STAGES)
        if document["error"] or document["attempts"] > 1
    ]
