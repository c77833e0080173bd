"""What a reader has of each output topic, by the rules that the topics declare.

Input is what the topic holds, decoded: (partition, rows of one message) in the order of each
partition's log. Repeats are allowed wherever the topic's rules let a reader tell them, and must
then say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import pytest
from datasketches import hll_sketch

from tests.oracle.tables import COUNTS

EXACTLY_SKETCHED = 100
"""A sketch of so many listeners still is a list of them."""

Rows = list[dict[str, Any]]
Messages = Iterable[tuple[int, Rows]]

WINDOW = (*COUNTS, "offset", "listeners", "new_listeners", "streams", "engaged")
TOTAL = (*COUNTS, "offset", "streams")
DAILY_SUMS = (*COUNTS, "likes", "dislikes")
DAY = (*COUNTS, "streams", "engaged", "downloads", "final")
ROLLING = (*COUNTS, "streams", "listeners", "engaged")
SESSION = ("ended_at", "offset", "events", "plays", "completes", "heard_ms")


def pick(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: row[name] for name in names}


def newest(
    messages: Messages, key: tuple[str, ...]
) -> dict[int, dict[tuple[Any, ...], dict[str, Any]]]:
    """Source partition -> key -> the row with the highest offset, the later one of equals; but
    where a day was over, nothing that has counted as much says otherwise."""
    found: dict[int, dict[tuple[Any, ...], dict[str, Any]]] = {}
    for _, rows in messages:
        for row in rows:
            known = found.setdefault(row["source_partition"], {})
            place = tuple(row[name] for name in key)
            if place not in known or _age(row) >= _age(known[place]):
                known[place] = row
    return found


def _age(row: Mapping[str, Any]) -> tuple[int, bool]:
    return row["offset"], row.get("final", False)


def windows(messages: Messages) -> dict[int, dict[tuple[Any, ...], dict[str, Any]]]:
    return _picked(newest(messages, ("episode_id", "bucket")), WINDOW)


def totals(messages: Messages) -> dict[int, dict[Any, dict[str, Any]]]:
    found = _picked(newest(messages, ("bucket",)), TOTAL)
    return {p: {minute: row for (minute,), row in rows.items()} for p, rows in found.items()}


def days(messages: Messages) -> dict[int, dict[tuple[Any, ...], dict[str, Any]]]:
    return _picked(newest(messages, ("episode_id", "day")), DAY)


def retention(messages: Messages) -> dict[int, dict[tuple[Any, ...], dict[str, Any]]]:
    return _picked(newest(messages, ("episode_id", "day", "minute")), ("listeners", "final"))


def streaks(messages: Messages) -> dict[int, dict[tuple[Any, ...], int]]:
    found = newest(messages, ("user_id", "day"))
    return {p: {place: row["days"] for place, row in rows.items()} for p, rows in found.items()}


def _picked(
    found: dict[int, dict[tuple[Any, ...], dict[str, Any]]], names: Iterable[str]
) -> dict[int, dict[tuple[Any, ...], dict[str, Any]]]:
    return {
        partition: {place: pick(row, names) for place, row in rows.items()}
        for partition, rows in found.items()
    }


def audience(messages: Messages) -> dict[int, dict[tuple[Any, ...], int]]:
    """Days in ascending order; a day that comes again is a repeat, and says the same."""
    found: dict[int, dict[tuple[Any, ...], int]] = {}
    for partition, rows in messages:
        known = found.setdefault(partition, {})
        assert {row["source_partition"] for row in rows} <= {partition}
        for row in rows:
            place = (row["kind"], row["scope"], row["day"])
            sketched = round(hll_sketch.deserialize(row["sketch"]).get_estimate())
            assert row["listeners"] <= EXACTLY_SKETCHED, "not a case for a sketch that is exact"
            assert known.setdefault(place, row["listeners"]) == row["listeners"] == sketched, place
    return found


def history(messages: Messages) -> dict[int, dict[tuple[Any, ...], dict[str, Any]]]:
    """Whole minutes; one that is not above an earlier one of its partition is a repeat."""
    found: dict[int, dict[tuple[Any, ...], dict[str, Any]]] = {}
    for partition, rows in messages:
        known = found.setdefault(partition, {})
        minutes = [row["bucket"] for row in rows]
        assert minutes == sorted(minutes)
        assert {row["source_partition"] for row in rows} == {partition}
        reached = max((minute for _, minute in known), default=None)
        for bucket in dict.fromkeys(minutes):
            here = {
                (row["episode_id"], bucket): pick(row, WINDOW)
                for row in rows
                if row["bucket"] == bucket
            }
            if reached is not None and bucket <= reached:
                again = {place: row for place, row in known.items() if place[1] == bucket}
                assert here == again, f"minute {bucket} of partition {partition} has changed"
            known.update(here)
    return found


def rolling(messages: Messages) -> dict[int, Rows]:
    """Source partition -> the rows of its last message."""
    return dict(messages)


def late(messages: Messages) -> dict[int, set[int]]:
    """Source partition -> source offsets."""
    found: dict[int, set[int]] = {}
    for partition, rows in messages:
        assert all(row["partition"] == partition for row in rows)
        found.setdefault(partition, set()).update(row["offset"] for row in rows)
    return found


def daily(messages: Messages) -> dict[int, dict[tuple[Any, ...], dict[str, Any]]]:
    """Amounts add up; a message whose range was applied already is a repeat."""
    found: dict[int, dict[tuple[Any, ...], dict[str, Any]]] = {}
    applied: dict[int, int] = {}
    for partition, rows in messages:
        if not rows or rows[0]["last_offset"] <= applied.get(partition, -1):
            continue
        (first,) = {row["first_offset"] for row in rows}
        (applied_to,) = {row["last_offset"] for row in rows}
        assert first > applied.get(partition, -1), "ranges overlap"
        applied[partition] = applied_to
        known = found.setdefault(partition, {})
        for row in rows:
            place = (row["user_id"], row["episode_id"], row["day"])
            sums = known.get(place)
            known[place] = pick(row, DAILY_SUMS) | {
                "first_at": row["first_at"],
                "last_at": row["last_at"],
                "duration_ms": row["duration_ms"],
            }
            if sums is not None:
                known[place] = _both(sums, known[place])
    return found


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {name: one[name] + other[name] for name in DAILY_SUMS} | {
        "first_at": min(one["first_at"], other["first_at"]),
        "last_at": max(one["last_at"], other["last_at"]),
        "duration_ms": max(one["duration_ms"], other["duration_ms"]),
    }


def sessions(messages: Messages) -> dict[int, dict[tuple[Any, ...], dict[str, Any]]]:
    """Rows whose offset is not above that of an earlier message are repeats; no others are."""
    found: dict[int, dict[tuple[Any, ...], dict[str, Any]]] = {}
    applied: dict[int, int] = {}
    for partition, rows in messages:
        known = found.setdefault(partition, {})
        for row in rows:
            place = (row["user_id"], row["started_at"])
            if row["offset"] > applied.get(partition, -1):
                assert place not in known, f"the session {place} came twice"
                known[place] = pick(row, SESSION)
            else:
                assert known.get(place) == pick(row, SESSION), f"the session {place} is lost"
        applied[partition] = max([applied.get(partition, -1), *(row["offset"] for row in rows)])
    return found


def progress(records: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], Mapping[str, Any]]:
    """Stage and source partition -> the last record."""
    return {(record["stage"], record["source_partition"]): record for record in records}


def agree(what: str, actual: Mapping[Any, Any], expected: Mapping[Any, Any]) -> None:
    """AssertionError that names the first few differences, for tables too long to print."""
    if actual == expected:
        return
    wrong = [
        f"{place}: got {actual.get(place)}, expected {expected.get(place)}"
        for place in sorted({**actual, **expected}, key=str)
        if actual.get(place) != expected.get(place)
    ]
    raise AssertionError(f"{what}: {len(wrong)} differ:\n" + "\n".join(wrong[:6]))


def anomalies(records: Iterable[tuple[int, dict[str, Any]]]) -> dict[tuple[str, datetime], Any]:
    """Episode and beginning of the bin -> what is told of it; what is told again is the same."""
    told: dict[tuple[str, datetime], dict[str, Any]] = {}
    for _, record in records:
        place = (record["episode_id"], record["at"])
        facts = pick(record, ("direction", "plays", "expected", "score"))
        assert told.setdefault(place, facts) == facts, f"two anomalies of {place}"
    return told


def agree_on_anomalies(told: Mapping[Any, Any], expected: Mapping[Any, Any]) -> None:
    """Both are the same anomalies; figures up to what adding in another order makes of them."""
    assert told.keys() == expected.keys()
    for place, facts in expected.items():
        figures = {name: value for name, value in facts.items() if name != "direction"}
        assert told[place]["direction"] == facts["direction"], place
        assert pick(told[place], figures) == pytest.approx(figures, abs=1e-5, rel=1e-9), place
