"""A generation sorts after the one before it, whatever the clock does."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobs.core.generation_names import next_name

AT = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def test_the_first_is_named_by_its_time() -> None:
    assert next_name(AT, "") == "20260131T120000Z"
    assert next_name(AT, "20260131T115959Z") == "20260131T120000Z"


@pytest.mark.parametrize(
    ("newest", "name"),
    [
        ("20260131T120000Z", "20260131T120001Z"),
        ("20260131T235959Z", "20260201T000000Z"),
        ("20990101T000000Z", "20990101T000001Z"),
        ("of-another", "of-another~"),
    ],
)
def test_a_clock_that_is_behind_makes_no_generation_that_is_never_taken_over(
    newest: str, name: str
) -> None:
    assert next_name(AT, newest) == name > newest
