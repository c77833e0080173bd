"""Sketches unite, are exact for few listeners, and close for many."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engagement.core.reach import reach, sketch

names = st.sets(st.text(min_size=1, max_size=6), max_size=20)


@given(st.lists(names, max_size=5))
@settings(deadline=timedelta(seconds=2))
def test_few_listeners_are_counted_exactly_over_any_days(days: list[set[str]]) -> None:
    found = reach(sketch(day) for day in days)
    assert found.listeners == len(set().union(*days))
    assert found.least <= found.listeners <= found.most


@pytest.mark.parametrize("number", [1_000, 20_000, 100_000])
def test_many_listeners_are_within_the_error(number: int) -> None:
    # Three days that share half of their listeners.
    days = [range(day * number // 2, day * number // 2 + number) for day in range(3)]
    found = reach(sketch(f"listener-{n}" for n in day) for day in days)
    assert abs(found.listeners / (2 * number) - 1) < 3 * 0.016
    assert found.least < found.listeners < found.most


def test_a_sketch_is_small() -> None:
    assert len(sketch(f"listener-{n}" for n in range(50_000))) < 2_200


def test_nobody_was_reached_on_no_day() -> None:
    assert reach([]).listeners == 0
