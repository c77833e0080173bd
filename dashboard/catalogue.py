"""The catalogue of episodes: the newest from MongoDB by an index, searches from Delta.

MongoDB has no index that finds words in titles, and a search that looks at every document costs
what was ever published. Delta holds the columns that a search reads apart from all others. An
episode of the last seconds, which is not in Delta yet, is found among the newest.

Nothing is written; times are UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from pymongo.database import Database

from dashboard.history import History, ask
from dashboard.queries import UTC_TYPE, Types, collection, in_utc

TABLES = ("episodes", "episode_topics")

_EPISODE_TYPES: Types = {
    "episode_id": pl.String,
    "title": pl.String,
    "show": pl.String,
    "categories": pl.List(pl.String),
    "language": pl.String,
    "published_at": UTC_TYPE,
    "duration_s": pl.Int64,
    "description": pl.String,
    "notes": pl.List(pl.String),
}


@dataclass(frozen=True)
class Search:
    """What is looked for; each condition that is empty admits every episode.

    ``text`` is in the title, the show or the id, or is the whole id of an episode; ``topic_id`` is
    the topic of its transcript.
    """

    text: str = ""
    category: str | None = None
    topic_id: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it admits every episode."""
        return not (self.text or self.category or self.topic_id)


def episode_count(database: Database[dict[str, Any]]) -> int:
    """How many episodes the catalogue holds."""
    return collection(database, "episodes").estimated_document_count()


def newest(database: Database[dict[str, Any]], limit: int) -> pl.DataFrame:
    """The ``limit`` episodes published last, newest first."""
    found = collection(database, "episodes").find().sort("published_at", -1).limit(limit)
    return _frame(found)


def catalogue(
    database: Database[dict[str, Any]], history: History, search: Search, limit: int = 300
) -> pl.DataFrame:
    """The episodes that a search finds, newest first, at most ``limit``.

    ``history`` has TABLES, as far as they are written. The whole id of an episode finds none but
    that one.
    """
    latest = newest(database, limit)
    if search.is_open:
        return latest
    exact = by_id(database, [search.text]) if search.text else latest.clear()
    if len(exact):
        found = exact if search.topic_id is None else exact.filter(_of_topic(history, search))
        return found.filter(_in_category(search))
    ids = _search(history, search, limit)
    fresh = latest.filter(_contains(search) & _in_category(search))
    if search.topic_id is not None:
        fresh = fresh.filter(_of_topic(history, search))
    older = by_id(database, [key for key in ids if key not in set(fresh["episode_id"])])
    found = pl.concat([fresh, older])
    return found.sort("published_at", descending=True, nulls_last=True).head(limit)


def by_id(database: Database[dict[str, Any]], episode_ids: Sequence[str]) -> pl.DataFrame:
    """The episodes with these ids, as far as the catalogue has them."""
    if not episode_ids:
        return _frame(())
    return _frame(collection(database, "episodes").find({"_id": {"$in": list(episode_ids)}}))


def categories(database: Database[dict[str, Any]], history: History, limit: int = 300) -> list[str]:
    """The categories of the catalogue, by name: Delta's, and those of the newest episodes."""
    names = set(newest(database, limit)["categories"].explode().drop_nulls())
    if _has(history, "categories"):
        found = ask(history, "SELECT DISTINCT unnest(categories) AS name FROM episodes")
        names |= set(found["name"].drop_nulls())
    return sorted(names - {""})


def _search(history: History, search: Search, limit: int) -> list[str]:
    """The ids of what Delta's newest ``limit`` episodes of a search are."""
    if not _has(history, "title", "show_title", "published_at", "categories"):
        return []
    conditions, values = ["TRUE"], []
    if search.text:
        named = [f"contains(lower({name}), ?)" for name in ("title", "show_title", "episode_id")]
        conditions.append(f"({' OR '.join(named)})")
        values += [search.text.lower()] * len(named)
    if search.category:
        conditions.append("list_contains(categories, ?)")
        values.append(search.category)
    if search.topic_id is not None:
        if not history.has("episode_topics"):
            return []
        conditions.append(
            "episode_id IN (SELECT episode_id FROM episode_topics WHERE topic_id = ?)"
        )
        values.append(search.topic_id)
    found = ask(
        history,
        f"SELECT episode_id FROM episodes WHERE {' AND '.join(conditions)} "  # noqa: S608  ours
        "ORDER BY published_at DESC NULLS LAST, episode_id LIMIT ?",
        [*values, limit],
    )
    return found["episode_id"].to_list()


def _has(history: History, *columns: str) -> bool:
    """Whether Delta's table of episodes has these columns: tests and old tables may have fewer."""
    if not history.has("episodes"):
        return False
    return set(columns) <= set(ask(history, "SELECT * FROM episodes LIMIT 0").columns)


def _contains(search: Search) -> pl.Expr:
    """Episodes with the text in title, show or id."""
    names = ("title", "show", "episode_id")
    wanted = search.text.lower()
    return pl.any_horizontal(
        pl.col(name).str.to_lowercase().str.contains(wanted, literal=True).fill_null(False)
        for name in names
    )


def _in_category(search: Search) -> pl.Expr:
    if not search.category:
        return pl.lit(True)
    return pl.col("categories").list.contains(search.category).fill_null(False)


def _of_topic(history: History, search: Search) -> pl.Expr:
    ids = []
    if history.has("episode_topics"):
        rows = ask(
            history, "SELECT episode_id FROM episode_topics WHERE topic_id = ?", [search.topic_id]
        )
        ids = rows["episode_id"].to_list()
    return pl.col("episode_id").is_in(ids)


def _frame(documents: Any) -> pl.DataFrame:
    rows = [
        {
            **document,
            "episode_id": document["_id"],
            "show": document.get("show_title"),
            "published_at": in_utc(document.get("published_at")),
        }
        for document in documents
    ]
    return pl.DataFrame(rows, schema=_EPISODE_TYPES)
