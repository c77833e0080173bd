from __future__ import annotations

from streams.state.recent import RecentValues


def test_the_oldest_is_forgotten_and_a_repeat_counts_as_new() -> None:
    values = RecentValues[str, int](2)
    values.put("a", 1)
    values.put("b", 2)
    values.put("a", 3)
    values.put("c", 4)
    assert [values.get(key) for key in "abc"] == [3, None, 4]
    values.clear()
    assert [values.get(key) for key in "abc"] == [None, None, None]


def test_what_is_dropped_makes_room() -> None:
    values = RecentValues[str, int](2)
    for key in "ab":
        values.put(key, 1)
    values.drop("b")
    values.drop("none")
    values.put("c", 1)
    assert [values.get(key) for key in "abc"] == [1, None, 1]
