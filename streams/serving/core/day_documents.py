"""The `episode_days` documents: an episode's UTC day, its source partitions added up.

Two topics tell of a day: what was counted (`episode_day`) and how many listeners heard each minute
of the episode (`episode_retention`). Of each, a document keeps the newest part of every source
partition, beside the sums that readers want.

Several workers write a document, each the parts of its own source partitions, and sums as far as
it has seen the others' parts. Each reads again what it wrote until the sums are those of all the
parts that are there. Whoever writes sums last has thus seen that nothing was left out; and
whoever brings a part later writes them later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from itertools import zip_longest
from typing import Any

import polars as pl

from schemas.metrics import DAY_METRICS
from streams.serving.core.documents import Document

_KEY = ("episode_id", "day", "source_partition")

DayPart = dict[str, Any]
"""What a source partition says, with the `offset` up to which it has counted and `final`."""


def day_id(episode_id: str, day: date) -> str:
    """The ``_id`` of an episode's UTC day, such as ``pi:1|2026-01-31``."""
    return f"{episode_id}|{day.isoformat()}"


def count_parts(rows: pl.DataFrame) -> dict[tuple[str, date], dict[str, DayPart]]:
    """The newest part of each source partition by episode and day, of rows of `episode_day`."""
    newest = rows.sort("offset", "final").unique(_KEY, keep="last", maintain_order=True)
    return _by_day(
        (row, {name: row[name] for name in ("offset", "final", *DAY_METRICS)})
        for row in newest.iter_rows(named=True)
    )


def retention_parts(rows: pl.DataFrame) -> dict[tuple[str, date], dict[str, DayPart]]:
    """The same of rows of `episode_retention`: ``listeners`` is a list by minute of the episode.

    A minute without a row is one that nobody heard. The rows of one curve have one offset.
    """
    age = 2 * pl.col("offset") + pl.col("final")
    newest = (
        rows.filter(age == age.max().over(_KEY))
        .unique([*_KEY, "minute"], keep="any")
        .sort("minute")
        .group_by(_KEY, maintain_order=True)
        .agg(pl.col("offset").first(), pl.col("final").first(), "minute", "listeners")
    )
    return _by_day(
        (
            row,
            {
                "offset": row["offset"],
                "final": row["final"],
                "listeners": _dense(row["minute"], row["listeners"]),
            },
        )
        for row in newest.iter_rows(named=True)
    )


def count_changes(
    stored: Mapping[str, Document], parts: Mapping[tuple[str, date], Mapping[str, DayPart]]
) -> dict[str, Document]:
    """The fields to set, by ``_id``, so that the documents hold these parts of `count_parts`.

    ``stored`` are the documents as they are, by ``_id``. Empty once they hold everything: a part
    that is not newer than the stored one is a repeat.
    """
    return _changes(stored, parts, "parts", _sums)


def retention_changes(
    stored: Mapping[str, Document], parts: Mapping[tuple[str, date], Mapping[str, DayPart]]
) -> dict[str, Document]:
    """The same for parts of `retention_parts`; a curve may come in two messages."""
    return _changes(stored, _completed(stored, parts), "retention_parts", _curve)


def _completed(
    stored: Mapping[str, Document], parts: Mapping[tuple[str, date], Mapping[str, DayPart]]
) -> dict[tuple[str, date], dict[str, DayPart]]:
    """The parts, each with the stored rest of the same curve."""
    completed = {}
    for (episode_id, day), told in parts.items():
        known = stored.get(day_id(episode_id, day), {}).get("retention_parts", {})
        completed[episode_id, day] = {
            place: _united(part, known[place])
            if place in known and _age(part) == _age(known[place])
            else part
            for place, part in told.items()
        }
    return completed


def _united(one: DayPart, other: DayPart) -> DayPart:
    curve = [max(pair) for pair in zip_longest(one["listeners"], other["listeners"], fillvalue=0)]
    return {**one, "listeners": curve}


def _changes(
    stored: Mapping[str, Document],
    parts: Mapping[tuple[str, date], Mapping[str, DayPart]],
    field: str,
    summary: Callable[[Mapping[str, DayPart]], Document],
) -> dict[str, Document]:
    changes = {}
    for (episode_id, day), told in parts.items():
        known = stored.get(day_id(episode_id, day), {})
        before = known.get(field, {})
        newer = {
            place: part
            for place, part in told.items()
            if place not in before
            or _age(part) > _age(before[place])
            or (_age(part) == _age(before[place]) and part != before[place])
        }
        sums = summary({**before, **newer})
        if newer or any(known.get(name) != value for name, value in sums.items()):
            changes[day_id(episode_id, day)] = {
                "episode_id": episode_id,
                "day": datetime(day.year, day.month, day.day, tzinfo=UTC),
                **sums,
                **{f"{field}.{place}": part for place, part in newer.items()},
            }
    return changes


def _age(part: DayPart) -> tuple[int, bool]:
    """A day's last word has counted no more than the word before it."""
    return part["offset"], part["final"]


def _sums(parts: Mapping[str, DayPart]) -> Document:
    return {
        **{name: sum(part[name] for part in parts.values()) for name in DAY_METRICS},
        "final": all(part["final"] for part in parts.values()),
    }


def _curve(parts: Mapping[str, DayPart]) -> Document:
    curves = [part["listeners"] for part in parts.values()]
    return {"retention": [sum(minute) for minute in zip_longest(*curves, fillvalue=0)]}


def _by_day(
    rows: Iterable[tuple[Mapping[str, Any], DayPart]],
) -> dict[tuple[str, date], dict[str, DayPart]]:
    found: dict[tuple[str, date], dict[str, DayPart]] = {}
    for row, part in rows:
        found.setdefault((row["episode_id"], row["day"]), {})[str(row["source_partition"])] = part
    return found


def _dense(minutes: list[int], listeners: list[int]) -> list[int]:
    curve = [0] * (minutes[-1] + 1)
    for minute, count in zip(minutes, listeners, strict=True):
        curve[minute] = count
    return curve
