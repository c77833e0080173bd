"""Answers made of documents: lists of episodes, rows of them, and statistics.

Every function is pure; documents are read and left untouched. What is made has the fields of
`streams.api.models`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from schemas.metrics import DAY_METRICS, ROLLING_METRICS
from streams.api.core.filters import Document, Filters

Answer = dict[str, Any]
Episodes = Mapping[str, Document]
"""Episode id -> what is known of it; ids of which nothing is known are missing."""

_DETAILS = ("show_id", "categories", "language", "explicit", "published_at", "duration_s")
_ADDRESSES = {"image_url": "image_url", "link": "link", "audio_url": "enclosure_url"}
EPISODE_FIELDS = ("title", "show_title", *_DETAILS, *_ADDRESSES.values())
"""What is read of an episode's document."""

TRENDING_NOW = "Trending now"
ALIKE = "About the same things"
DAYS = 7
_ABSENT = dict.fromkeys(ROLLING_METRICS, 0)


def described(episode_id: str, episode: Document | None, told: Document) -> Answer:
    """An episode as every list shows it; ``told`` is what the list itself says of it."""
    known = episode or {}
    return {
        "episode_id": episode_id,
        # the catalogue's word is the newest
        "title": known.get("title") or told.get("title", ""),
        "show": known.get("show_title") or told.get("show", ""),
        **{name: known.get(name) for name in _DETAILS},
        **{name: known.get(field) or None for name, field in _ADDRESSES.items()},
    }


def recommended(
    document: Document, episodes: Episodes, filters: Filters, count: int
) -> list[Answer]:
    """The first ``count`` items of a listener's list that the filters admit, best first."""
    return [
        {
            **described(item["episode_id"], episodes.get(item["episode_id"]), item),
            "score": item["score"],
            "parts": dict(item["parts"]),
            "reason": item["reason"],
        }
        for item in _admitted(document["items"], episodes, filters, count)
    ]


def trending(
    rankings: Iterable[Document], episodes: Episodes, filters: Filters, count: int
) -> list[Answer]:
    """The first ``count`` places of several rankings, one after the other, each episode once."""
    places: dict[str, Document] = {}
    for ranking in rankings:
        for place in ranking["episodes"]:
            places.setdefault(place["episode_id"], place)
    return [
        {
            **described(place["episode_id"], episodes.get(place["episode_id"]), place),
            "score": place["score"],
            "reason": TRENDING_NOW,
            **{name: place[name] for name in ("plays", "recent", "usual", "rise")},
        }
        for place in _admitted(places.values(), episodes, filters, count)
    ]


def instead(items: Iterable[Answer]) -> list[Answer]:
    """Trending episodes in the place of a list: what belongs to a ranking alone is left out."""
    left_out = ("plays", "recent", "usual", "rise")
    return [{k: v for k, v in item.items() if k not in left_out} for item in items]


def similar(document: Document, episodes: Episodes, filters: Filters, count: int) -> list[Answer]:
    """The first ``count`` neighbours of an episode that the filters admit, nearest first."""
    return [
        {
            **described(near["episode_id"], episodes.get(near["episode_id"]), {}),
            "score": near["score"],
            "reason": ALIKE,
        }
        for near in _admitted(document["neighbours"], episodes, filters, count)
    ]


def _admitted(
    items: Iterable[Document], episodes: Episodes, filters: Filters, count: int
) -> list[Document]:
    admitted = (item for item in items if filters.admit(episodes.get(item["episode_id"])))
    return [item for item, _ in zip(admitted, range(count), strict=False)]


def rows(items: Iterable[Answer]) -> list[Answer]:
    """The items by reason, each row headed by it; rows in the order of their first items."""
    found: dict[str, list[str]] = {}
    for item in items:
        found.setdefault(item["reason"], []).append(item["episode_id"])
    return [{"title": title, "episode_ids": ids} for title, ids in found.items()]


# -- statistics --------------------------------------------------------------------------------


def by_scope(document: Document) -> Answer:
    """A document of `rolling_windows`, its counts findable by episode, show or category."""
    names = ("title", "show")
    return {
        "at": document["at"],
        "minutes": document["minutes"],
        "scopes": {
            row["scope"]: {name: row[name] for name in (*ROLLING_METRICS, *names) if name in row}
            for row in document["scopes"]
        },
    }


def windows(
    scope: str, documents: Iterable[Document], most: int
) -> tuple[datetime | None, list[Answer]]:
    """The newest minute counted, and what a scope has in each window of `by_scope`.

    A window names at most ``most`` scopes. In one that is full, the counts of a scope that is not
    named are unknown: None.
    """
    at: datetime | None = None
    told = []
    for document in sorted(documents, key=lambda one: int(one["minutes"])):
        scopes = document["scopes"]
        counts = scopes.get(scope, _ABSENT if len(scopes) < most else None)
        shown = None if counts is None else {name: counts.get(name, 0) for name in ROLLING_METRICS}
        told.append({"minutes": document["minutes"], "counts": shown})
        if document["at"] is not None and (at is None or document["at"] > at):
            at = document["at"]
    return at, told


def day_ids(episode_id: str, at: datetime) -> list[str]:
    """The ids in `episode_days` of an episode's last days, oldest first, that of ``at`` last."""
    last = at.date()
    days = (last - timedelta(days=ago) for ago in reversed(range(DAYS)))
    return [f"{episode_id}|{day.isoformat()}" for day in days]


def days(documents: Sequence[Document]) -> list[Answer]:
    """What was counted of an episode on each day that has a document."""
    return [
        {
            "day": document["day"].date(),
            # a day that only has its curve yet has no counts
            **{name: document.get(name, 0) for name in DAY_METRICS},
            "final": document.get("final", False),
        }
        for document in documents
    ]
