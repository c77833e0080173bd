"""Columns make the same of rows as `parse_event`, and their messages are those of the codec."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import RecordCodec
from schemas.registry import FixedRegistry
from streams.operations.core import event_columns, imports
from streams.operations.core.event_columns import event_frame, parse_columns
from streams.operations.core.event_encoding import EventEncoder
from streams.operations.core.imports import Row, Rows
from topology.graph import build_graph, declared_subjects

NOW_MS = imports.milliseconds(datetime(2026, 6, 1, tzinfo=UTC))
REGISTRY = FixedRegistry(declared_subjects(build_graph(1)))
CODEC = RecordCodec("user-events", "user_event", REGISTRY)
ENCODER = EventEncoder(REGISTRY.id_of("user-events-value"))

TEXTS = ("u", "ü1", "a|b", "", " ", " u", "\x1c", "\xa0", "é" * 600, "x" * 1025, None)
TIMES = (
    "2026-01-31T12:00:00Z",
    "2026-01-31 12:00:00.250",
    "2026-01-31T12:00:00.250999+05:30",
    "2026-01-31T12:00:00.5-00:15",
    "2026-02-30T12:00:00Z",
    "2026-01-31T24:00:00Z",
    "2026-01-31T12:00:60Z",
    "2026-01-31T12:00Z",
    "2026-01-31",
    "1989-12-31T23:59:59Z",
    "2026-06-03T00:00:00Z",
    "Sat, 31 Jan 2026 12:00:00 GMT",
    "1769860800",
    "1769860800250",
    "1769860800250123456",
    "5",
    "nonsense",
    "",
    None,
)
NUMBERS = ("0", "1", "007", "3.0", "-1", "86400001", "9" * 20, "", " 5", "x", None)
VALUES: dict[str, tuple[Any, ...]] = {
    "event_id": ("e1", None, "", "x" * 1025),
    "user_id": TEXTS,
    "episode_id": ("pi:1", "pi:2"),
    "kind": ("play", "progress", "skip", "Play", "", None),
    "occurred_at": TIMES,
    "heard_ms": NUMBERS,
    "position_ms": ("0", "1000"),
    "session_id": TEXTS,
    "rank": ("1", "0", "2147483648", None),
    "duration_ms": NUMBERS,
}


def row_of(values: dict[str, tuple[Any, ...]]) -> st.SearchStrategy[dict[str, Any]]:
    """Mostly the first value of each column, so that most rows are good."""
    return st.fixed_dictionaries(
        {
            name: st.one_of(st.just(some[0]), st.just(some[0]), st.sampled_from(some))
            for name, some in values.items()
        }
    )


def same(rows: Sequence[Row]) -> int:
    """Compare the two ways; how many events there are."""
    read = Rows(list(range(2, 2 + len(rows))), list(rows), [(1, "before")])
    events, refused = imports.parse_events(read, NOW_MS)
    frame, refused_too = parse_columns(read, NOW_MS)
    assert refused_too == refused
    gone = {line for line, _ in refused}
    assert frame["line"].to_list() == [line for line in read.lines if line not in gone]
    assert frame.drop("line").equals(event_frame(events).drop("line"))
    assert ENCODER.encode(frame).to_pylist() == [CODEC.encode(event) for event in events]
    return len(events)


@given(st.lists(row_of(VALUES), max_size=12))
def test_text_is_read_as_row_by_row(rows: list[dict[str, Any]]) -> None:
    same(rows)


TYPED: dict[str, tuple[Any, ...]] = {
    **VALUES,
    "occurred_at": (1_769_860_800, 1_769_860_800_250, 1_769_860_800_250_123, 5, None, 2**70),
    "heard_ms": (5, -1, None, 2**63, 86_400_001),
    "user_id": ("u", 7, 7.0, True, "\ud800", float("nan")),
    "rank": (1, None),
    "duration_ms": (None, 5, 2.5),
}


@given(st.lists(row_of(TYPED), max_size=12))
def test_values_of_other_types_are_read_as_row_by_row(rows: list[dict[str, Any]]) -> None:
    same(rows)


MOMENTS = (
    datetime(2026, 1, 31, 12, tzinfo=UTC),
    datetime(2026, 1, 31, 12, 0, 0, 250_999, UTC).replace(tzinfo=None),
    datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=3))),
    date(2026, 1, 31),
    None,
)


@given(st.lists(row_of({**TYPED, "occurred_at": MOMENTS, "user_id": ("u",)}), max_size=8))
def test_moments_are_read_as_row_by_row(rows: list[dict[str, Any]]) -> None:
    same(rows)


def test_rows_as_programs_write_them_are_not_read_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_columns, "parse_events", None)
    rows: list[Row] = [
        {
            "user_id": f"u{number}",
            "episode_id": "pi:1",
            "kind": "play",
            "occurred_at": time,
            "heard_ms": number * 97,
            "extra": {"a": 1},
        }
        for number, time in enumerate(TIMES[:3] * 40)
    ]
    frame, refused = parse_columns(Rows(list(range(len(rows))), rows), NOW_MS)
    assert (frame.height, refused) == (120, [])


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.none() | st.just(3)), min_size=1))
def test_numbers_of_any_size_are_encoded_as_one_by_one(some: list[tuple[int, int | None]]) -> None:
    row = {"user_id": "u", "episode_id": "e", "kind": "play", "occurred_at": "1769860800"}
    event = imports.parse_event(row)
    events = [{**event, "position_ms": number, "rank": rank} for number, rank in some]
    assert ENCODER.encode(event_frame(events)).to_pylist() == [CODEC.encode(one) for one in events]


def test_rows_with_as_many_but_other_columns_keep_theirs() -> None:
    row = {"user_id": "u", "episode_id": "e", "kind": "play", "occurred_at": "1769860800"}
    others = ({"session_id": "s"}, {"surface": "home"}, {"of no use": "x"}, {"session_id": "s"})
    assert same([{**row, **other} for other in others]) == len(others)
    assert same([{"user_id": "u"}, {"episode_id": "e"}]) == 0
