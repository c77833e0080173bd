"""Repeats by definition, whatever is seen together."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from streams.events.core.dedup import DedupWindow
from streams.state.interner import Hashed, hash_strings


def by_definition(ids: list[str], offsets: list[int], window: int) -> list[int]:
    return [
        place
        for place, (name, offset) in enumerate(zip(ids, offsets, strict=True))
        if any(
            name == other and offset - at <= window
            for other, at in zip(ids[:place], offsets[:place], strict=True)
        )
    ]


def badly(ids: pl.Series) -> Hashed:
    checks = np.array([ord(name) for name in ids], np.int64)
    return Hashed(ids, np.arange(len(ids)), checks % 2, checks)


def found(
    ids: list[str],
    offsets: list[int],
    window: int,
    cuts: list[int],
    hash_them: Callable[[pl.Series], Hashed] = hash_strings,
) -> list[int]:
    seen, places = DedupWindow(window), []
    for start, end in pairwise([0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]):
        some = hash_them(pl.Series(ids[start:end], dtype=pl.String))
        repeats = seen.repeats(some, np.array(offsets[start:end], np.int64))
        places += [start + place for place in repeats.tolist()]
    return places


logs = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 4)), max_size=60)


@given(logs, st.integers(0, 30), st.lists(st.integers(0, 60), max_size=6))
def test_repeats_are_those_of_the_definition(log: Any, window: Any, cuts: Any) -> None:
    ids, offsets = [name for name, _ in log], list(accumulate(gap for _, gap in log))
    assert found(ids, offsets, window, cuts) == by_definition(ids, offsets, window)


@given(logs, st.integers(0, 30), st.lists(st.integers(0, 60), max_size=6))
def test_two_ids_with_the_same_first_hash_are_not_one(log: Any, window: Any, cuts: Any) -> None:
    ids, offsets = [name for name, _ in log], list(accumulate(gap for _, gap in log))
    got = found(ids, offsets, window, cuts, badly)
    # What shares its hash may take the other's place, so a repeat may be missed, never made up.
    assert set(got) <= set(by_definition(ids, offsets, window))


def test_the_window_holds_no_more_than_it_can_need() -> None:
    window = DedupWindow(100)
    for start in range(0, 10_000, 10):
        offsets = np.arange(start, start + 10)
        assert not window.repeats(hash_strings(pl.Series([f"e{o}" for o in offsets])), offsets).size
    assert len(window) <= 220
