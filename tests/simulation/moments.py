"""What the tables must hold at a moment at which nothing is at rest: all that is acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.oracle import readers, tables
from tests.oracle.check import Oracle, Outputs
from tests.oracle.tables import Verdict

Check = Callable[[Oracle, Outputs, int, Sequence[Verdict]], None]
"""Looks at what the topics hold of a source partition, given the verdicts on its events that are
acknowledged; AssertionError if anything of them is missing."""


def check_engagement(
    oracle: Oracle, outputs: Outputs, partition: int, acknowledged: Sequence[Verdict]
) -> None:
    lateness = oracle.lateness
    shown = readers.windows(outputs("engagement-windows")).get(partition, {})
    for place, row in tables.windows(acknowledged).items():
        assert place in shown, f"minute {place} of {partition} is acknowledged and not shown"
        assert shown[place]["offset"] >= row["offset"], f"minute {place} of {partition} is behind"
    told = readers.history(outputs("engagement-history")).get(partition, {})
    _holds("history", told, tables.history(acknowledged, lateness))
    late = readers.late(outputs("late-events")).get(partition, set())
    assert late >= tables.late_offsets(acknowledged), f"late events of {partition} are missing"
    days = readers.days(outputs("episode-days")).get(partition, {})
    over = {k: v for k, v in tables.days(acknowledged, lateness).items() if v["final"]}
    _holds("days that are over", days, over)


def check_listening(
    oracle: Oracle, outputs: Outputs, partition: int, acknowledged: Sequence[Verdict]
) -> None:
    lateness, forgotten = oracle.lateness, oracle.forgotten
    heard = readers.daily(outputs("user-episode-daily")).get(partition, {})
    for place, row in tables.daily(oracle.by_name(acknowledged)).items():
        assert place in heard, f"{place} of {partition} is acknowledged and not told"
        for name in readers.DAILY_SUMS:
            assert heard[place][name] >= row[name], f"{name} of {place} of {partition} is behind"
    told = readers.sessions(outputs("listening-sessions")).get(partition, {})
    _holds("sessions", told, tables.told_sessions(acknowledged, lateness, forgotten))
    streaks = readers.streaks(outputs("listening-streaks")).get(partition, {})
    anew = {user for user, _ in forgotten.values()}
    for day, length in tables.told_streaks(acknowledged, forgotten).items():
        if day[0] in anew:
            continue  # it may have become shorter since
        assert streaks.get(day, 0) >= length, f"the streak {day} of {partition} is behind"


CHECKS: Mapping[str, Check] = {
    "track_engagement": check_engagement,
    "track_listening": check_listening,
}


def _holds(what: str, told: Mapping[Any, Any], expected: Mapping[Any, Any]) -> None:
    """Everything expected is told, as it is expected; there may be more."""
    readers.agree(f"{what} at a moment", {k: v for k, v in told.items() if k in expected}, expected)
