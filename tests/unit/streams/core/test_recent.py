from __future__ import annotations

from streams.core.recent import RecentKeys


def test_the_oldest_is_forgotten_and_a_repeat_counts_as_new() -> None:
    keys = RecentKeys(2)
    keys.add("a")
    keys.add("b")
    keys.add("a")
    keys.add("c")
    assert ("a" in keys, "b" in keys, "c" in keys, len(keys)) == (True, False, True, 2)
