from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.retention import drop_offs, retention_curve


def days(*rows: tuple[int, list[int]]) -> pl.DataFrame:
    """Rows of (downloads, retention)."""
    return pl.DataFrame(
        [
            {"day": date(2026, 1, 1 + number), "downloads": downloads, "retention": curve}
            for number, (downloads, curve) in enumerate(rows)
        ],
        schema={"day": pl.Date, "downloads": pl.Int64, "retention": pl.List(pl.Int64)},
    )


def test_days_add_up_and_the_share_is_of_everybody() -> None:
    curve = retention_curve(days((6, [5, 4]), (4, [3, 2, 1])))
    assert curve.select("minute", "listeners").rows() == [(0, 8), (1, 6), (2, 1)]
    assert curve["share"].to_list() == pytest.approx([0.8, 0.6, 0.1])


def test_the_share_never_exceeds_everybody_while_downloads_are_on_their_way() -> None:
    assert retention_curve(days((0, [5, 4])))["share"].to_list() == [1.0, 0.8]


def test_no_listening_has_no_curve() -> None:
    for empty in (days(), days((3, []))):
        assert retention_curve(empty).is_empty()
        assert drop_offs(retention_curve(empty)).is_empty()


def test_the_largest_falls_in_the_order_of_the_episode() -> None:
    curve = retention_curve(days((100, [100, 80, 79, 40, 45, 35, 30])))
    drops = drop_offs(curve, 2)
    assert drops.select("minute", "lost").rows() == [(1, 20), (3, 39)]
    assert drops["left"].to_list() == [0.8, 0.4]
    assert drop_offs(curve)["minute"].to_list() == [1, 3, 5]


def test_few_who_leave_make_no_drop_off() -> None:
    assert drop_offs(retention_curve(days((100, [100, 99, 98])))).is_empty()


def test_of_equal_falls_the_earlier_one_counts() -> None:
    curve = retention_curve(days((10, [10, 8, 6, 4])))
    assert drop_offs(curve, 1)["minute"].to_list() == [1]


@given(st.lists(st.integers(0, 1000), max_size=60), st.integers(1, 5))
def test_no_fall_left_out_is_larger_than_one_told(curve: list[int], count: int) -> None:
    falls = {minute: curve[minute - 1] - curve[minute] for minute in range(1, len(curve))}
    drops = drop_offs(retention_curve(days((1000, curve))), count)
    told = dict(drops.select("minute", "lost").rows())
    assert len(told) <= count
    assert all(falls[minute] == lost > 0 for minute, lost in told.items())
    if len(told) == count:
        left_out = [lost for minute, lost in falls.items() if minute not in told]
        assert max(left_out, default=0) <= min(told.values())
