"""MovieLens-100K as episodes and listener events: a film is an episode of two hours.

A rating becomes exactly one event, by what somebody who felt like that would have done:

| rating | kind | heard |
|---|---|---|
| 5, 4 | `complete` | all of it |
| 3 | `progress` | half |
| 2 | `pause` | a tenth |
| 1 | `dislike` | a twentieth |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from streams.ingest.core.episodes import IMPORT
from streams.operations.core.imports import RowError, parse_event, parse_integer, transcript

DURATION_S = 7_200
PREFIX = "ml"
SHOW = "MovieLens"

_DURATION_MS = DURATION_S * 1000
_REACTIONS = {
    5: ("complete", _DURATION_MS),
    4: ("complete", _DURATION_MS),
    3: ("progress", _DURATION_MS // 2),
    2: ("pause", _DURATION_MS // 10),
    1: ("dislike", _DURATION_MS // 20),
}


def episode_of_film(film: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `episode` of a film and the `transcript` that stands for it: its title and genres.

    ``film`` has `item_id`, `movie_title`, `release_year` and `class` (genres, with spaces between).
    """
    year = film["release_year"] if film["release_year"].isdigit() else None
    title = f"{film['movie_title']} ({year})" if year else film["movie_title"]
    genres = film["class"].split()
    show = genres[0] if genres else SHOW
    episode_id = f"{PREFIX}:{film['item_id']}"
    episode = {
        "episode_id": episode_id,
        "title": title,
        "show_id": f"{PREFIX}:show:{show}",
        "show_title": show,
        "categories": genres,
        "language": "en",
        "published_at": datetime(int(year), 1, 1, tzinfo=UTC) if year else None,
        "duration_s": DURATION_S,
        "source": IMPORT,
    }
    text = f"{title}. Genres: {', '.join(genres)}."
    return episode, transcript(episode_id, text, "en")


def events_of_ratings(ratings: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """One `user_event` for each rating, in the order of time.

    A rating has `user_id`, `item_id`, `rating` (1 to 5) and `timestamp` (seconds since 1970).
    RowError for any other rating.
    """
    events = [_event(rating) for rating in ratings]
    return sorted(events, key=lambda e: (e["occurred_at"], e["user_id"], e["episode_id"]))


def _event(rating: Mapping[str, str]) -> dict[str, Any]:
    stars = parse_integer(rating["rating"])
    if stars not in _REACTIONS:
        raise RowError(f"rating {stars} is not between 1 and 5")
    kind, heard_ms = _REACTIONS[stars]
    at = datetime.fromtimestamp(parse_integer(rating["timestamp"]), UTC)
    return parse_event(
        {
            "user_id": rating["user_id"],
            "episode_id": f"{PREFIX}:{rating['item_id']}",
            "kind": kind,
            "occurred_at": at,
            "heard_ms": heard_ms,
            "position_ms": heard_ms,
        }
    )
