"""What was worked out from transcripts: the Delta tables asked, and the words to say it in.

Nothing is drawn here, and nothing is written. Labels, names and phrases are what strangers said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from dashboard.history import History, ask
from dashboard.queries import Types

TABLES = ("episode_analysis", "episode_topics", "topics", "episode_duplicates")
MOST_SPEAKERS = 8
LONGEST_CHIP = 60
UNLABELLED = "no phrases in common"

# R. Flesch, "How to Write Plain English": what the scores of English texts mean
_READING = (
    (90, "very easy"),
    (80, "easy"),
    (70, "fairly easy"),
    (60, "plain"),
    (50, "fairly hard"),
    (30, "hard"),
)
_SHARES: Types = {"speaker": pl.String, "share": pl.Float64}
_SPONSORS: Types = {
    "start_ms": pl.Int64,
    "end_ms": pl.Int64,
    "score": pl.Float64,
    "brand": pl.String,
    "evidence": pl.List(pl.String),
}
_SIMILAR: Types = {"episode_id": pl.String, "similarity": pl.Float64}
_TOPICS: Types = {"topic_id": pl.String, "label": pl.String, "episodes": pl.Int64}


@dataclass(frozen=True)
class Found:
    """What the tables say of an episode.

    ``analysis`` is its row of `episode_analysis`; ``topic`` has the ``label`` and the number of
    ``episodes`` of its topic. Either is None where there is none. ``similar`` has ``episode_id``,
    ``similarity`` (null beyond those that a record lists) and whether it came ``first``.
    """

    analysis: dict[str, Any] | None
    topic: dict[str, Any] | None
    similar: pl.DataFrame


def found_for(history: History, episode_id: str) -> Found:
    """What the tables say of the episode; tables not written yet say nothing."""
    return Found(
        _row(history, "episode_analysis", episode_id),
        _topic(history, episode_id),
        _similar(_row(history, "episode_duplicates", episode_id)),
    )


def _row(history: History, table: str, episode_id: str) -> dict[str, Any] | None:
    if not history.has(table):
        return None
    rows = ask(history, f"SELECT * FROM {table} WHERE episode_id = ?", [episode_id])  # noqa: S608
    return rows.row(0, named=True) if len(rows) else None


def _topic(history: History, episode_id: str) -> dict[str, Any] | None:
    of_episode = _row(history, "episode_topics", episode_id)
    if of_episode is None:
        return None
    known = topics(history).filter(pl.col("topic_id") == of_episode["topic_id"])
    return known.row(0, named=True) if len(known) else None


def _similar(duplicates: dict[str, Any] | None) -> pl.DataFrame:
    row = duplicates or {"similar": [], "duplicate_of": None}
    similar = pl.DataFrame(row["similar"] or [], schema=_SIMILAR)
    original = row["duplicate_of"]
    if original is not None and original not in similar["episode_id"]:
        missing = pl.DataFrame([{"episode_id": original}], schema=_SIMILAR)
        similar = pl.concat([similar, missing])
    return similar.with_columns(first=pl.col("episode_id").eq_missing(pl.lit(original, pl.String)))


def topics(history: History) -> pl.DataFrame:
    """``topic_id``, ``label`` and ``episodes`` of the topics that have any, largest first."""
    if not history.has("episode_topics", "topics"):
        return pl.DataFrame(schema=_TOPICS)
    return ask(
        history,
        """
        SELECT topic_id, coalesce(any_value(label), '') AS label, count(*) AS episodes
        FROM episode_topics JOIN topics USING (topic_id)
        GROUP BY topic_id ORDER BY episodes DESC, label, topic_id
        """,
    )


def topic_name(label: str, episodes: int) -> str:
    """A topic's label, which may be empty, and how many episodes it has."""
    return f"{label or UNLABELLED} ({episodes:,})"


def topic_names(topics: pl.DataFrame) -> dict[str, str]:
    """Topic -> its name; topics as from ``topics``. No two have the same name."""
    names: dict[str, str] = {}
    for topic_id, label, episodes in topics.iter_rows():
        name = topic_name(label, episodes)
        names[topic_id] = f"{name} · {topic_id}" if name in names.values() else name
    return names


def speaker_shares(analysis: dict[str, Any]) -> pl.DataFrame:
    """``label`` and ``share`` (0 to 1) of those who speak most, then of all others together.

    What is missing to one was said by nobody with a name.
    """
    speakers = pl.DataFrame(analysis["speakers"] or [], schema=_SHARES)
    if speakers.is_empty():
        return pl.DataFrame(schema={"label": pl.String, "share": pl.Float64})
    shown, others = speakers[:MOST_SPEAKERS], speakers[MOST_SPEAKERS:]
    rows = [
        (f"{place}. {name}", share)
        for place, (name, share) in enumerate(shown.iter_rows(), start=1)
    ]
    if len(others):
        rows.append((f"{len(others)} more", others["share"].sum()))
    unnamed = 1 - speakers["share"].sum()
    if unnamed >= 0.005:
        rows.append(("without a name", unnamed))
    return pl.DataFrame(rows, schema={"label": pl.String, "share": pl.Float64}, orient="row")


def sponsor_guesses(analysis: dict[str, Any]) -> pl.DataFrame:
    """``start`` and ``end`` on the clock, ``brand``, ``evidence``, ``score``; in their order."""
    guesses = pl.DataFrame(analysis["sponsors"] or [], schema=_SPONSORS)
    return guesses.select(
        start=pl.col("start_ms").map_elements(clock, pl.String).fill_null(""),
        end=pl.col("end_ms").map_elements(clock, pl.String).fill_null(""),
        brand="brand",
        evidence="evidence",
        score="score",
    )


def clock(milliseconds: int) -> str:
    """A place in an episode: ``1:05``, ``1:00:05``."""
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def reading(ease: float) -> str:
    """What a Flesch reading ease means."""
    return next((word for least, word in _READING if ease >= least), "very hard")


def chips(phrases: Iterable[str]) -> str:
    """Markdown that shows each phrase as it is, in a box of its own.

    In a code span nothing is markup, if it is fenced by more backticks than it has in a row.
    """
    return " ".join(_chip(" ".join(phrase.split())) for phrase in phrases if phrase.strip())


def _chip(phrase: str) -> str:
    if len(phrase) > LONGEST_CHIP:
        phrase = f"{phrase[: LONGEST_CHIP - 1]}…"
    longest = max((len(run) for run in re.findall("`+", phrase)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {phrase} {fence}"  # the spaces are part of the fence
