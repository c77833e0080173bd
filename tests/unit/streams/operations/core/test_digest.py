from __future__ import annotations

import random
from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operations.core.digest import combined, differences, digest

ROWS = st.lists(
    st.tuples(st.text(max_size=4), st.integers(-(2**62), 2**62)), max_size=20, unique=True
)


def frame(rows: list[tuple[str, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"a": pl.String, "n": pl.Int64}, orient="row")


@given(ROWS, st.randoms())
def test_the_order_of_rows_and_columns_makes_no_difference(
    rows: list[tuple[str, int]], chance: random.Random
) -> None:
    mixed = list(rows)
    chance.shuffle(mixed)
    assert digest(frame(mixed).select("n", "a")) == digest(frame(rows))


@given(ROWS, ROWS)
def test_only_equal_rows_have_equal_digests(
    one: list[tuple[str, int]], other: list[tuple[str, int]]
) -> None:
    assert (digest(frame(one)) == digest(frame(other))) == (sorted(one) == sorted(other))


def test_text_cannot_pose_as_other_rows() -> None:
    assert digest(frame([("x\n", 1)])) != digest(frame([("x", 1)]))
    two = pl.DataFrame({"a": ['p","b":"q'], "b": [""]})
    assert digest(two) != digest(pl.DataFrame({"a": ["p"], "b": ["q"]}))


def test_widths_and_units_make_no_difference() -> None:
    at = datetime(2026, 1, 31, 12, 5, tzinfo=UTC)
    millis = pl.DataFrame(
        {"at": [at], "n": [1]}, schema={"at": pl.Datetime("ms", "UTC"), "n": pl.Int64}
    )
    micros = pl.DataFrame(
        {"at": [at], "n": [1]}, schema={"at": pl.Datetime("us", "UTC"), "n": pl.Int32}
    )
    assert digest(millis) == digest(micros)


def test_numbers_that_are_not_exact_are_refused() -> None:
    with pytest.raises(TypeError, match="column n is Float64"):
        digest(pl.DataFrame({"n": [0.1]}))


def test_a_known_digest_stays_what_it_is() -> None:
    rows = pl.DataFrame({"day": [date(2026, 1, 31)], "user_id": ["u"], "plays": [3]})
    assert digest(rows) == "7615c7f5561aedc2a2484ceae6f2b47465c0e701878eb8f9fdfad5965a74d119"
    assert combined([digest(rows)]) != combined([digest(rows), digest(rows)])


def test_differences_show_both_sides_in_order_of_their_keys() -> None:
    ours = frame([("b", 1), ("a", 1), ("same", 5)])
    theirs = frame([("c", 7), ("b", 2), ("same", 5)])
    found = differences(ours, theirs, ["a"])
    assert [(d.key["a"], d.rebuilt, d.live) for d in found] == [
        ("a", {"n": 1}, None),
        ("b", {"n": 1}, {"n": 2}),
        ("c", None, {"n": 7}),
    ]
    assert len(differences(ours, theirs, ["a"], limit=1)) == 1
    assert differences(ours, ours, ["a"]) == []
