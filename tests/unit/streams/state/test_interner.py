"""A StringInterner against a list, also where hashes collide."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.state import interner as module
from streams.state.interner import StringInterner

words = st.lists(st.text(max_size=4), max_size=20)


@given(st.lists(words, max_size=8))
@settings(max_examples=60, deadline=None)
def test_numbers_are_given_by_first_appearance(batches: list[list[str]]) -> None:
    names, known = StringInterner(), list[str]()
    for batch in batches:
        known += [word for word in dict.fromkeys(batch) if word not in known]
        codes = names.codes(pl.Series(batch, dtype=pl.String))
        assert codes.tolist() == [known.index(word) for word in batch]
        assert names.of(codes) == batch
    assert names.all() == known


@given(st.lists(words, max_size=6), st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_what_was_added_gives_the_same_names_elsewhere(
    batches: list[list[str]], saved: int
) -> None:
    names, copy = StringInterner(), StringInterner()
    for place, batch in enumerate(batches):
        names.codes(batch)
        if place >= saved:
            copy.load(len(names) - len(names.added()), names.added())
            names.forget_changes()
    if len(batches) > saved:
        assert copy.all() == names.all()
        assert not copy.added()


@given(st.sets(st.text(max_size=4)), st.data())
@settings(max_examples=60, deadline=None)
def test_the_names_kept_get_new_numbers_in_the_same_order(words: set[str], data: Any) -> None:
    names = StringInterner()
    before = sorted(words)
    names.codes(before)
    used = np.array(data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words))))
    numbers = names.keep(used.astype(bool))
    kept = [word for word, is_kept in zip(before, used, strict=True) if is_kept]
    assert names.all() == kept
    assert [names[numbers[code]] for code, is_kept in enumerate(used) if is_kept] == kept
    assert names.codes([*kept, "a new one"])[-1] == len(kept)


def test_names_with_other_numbers_are_refused() -> None:
    names = StringInterner()
    names.codes(["anna", "bert"])
    with pytest.raises(ValueError, match="numbers"):
        names.load(0, ["bert"])


@pytest.mark.parametrize("together", [True, False])
def test_strings_whose_hashes_collide_are_told_apart(
    together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"listener {number}" for number in range(50)]
    real = module._hashes

    def weak(strings: pl.Series, seed: int) -> tuple[np.ndarray, np.ndarray]:
        keys, checks = real(strings, seed)
        return (keys % 7 if seed < module._SEED + 3 else keys), checks

    monkeypatch.setattr(module, "_hashes", weak)
    names = StringInterner()
    for batch in [words] if together else [[word] for word in words]:
        names.codes(batch)
    assert names.all() == words
    assert names.codes(words[::-1]).tolist() == list(range(50))[::-1]


@given(st.sets(st.text(max_size=4), min_size=1), st.data())
@settings(max_examples=60, deadline=None)
def test_a_string_that_is_renamed_leaves_its_number_to_another(words: set[str], data: Any) -> None:
    names, before = StringInterner(), sorted(words)
    names.codes(before)
    place = data.draw(st.integers(0, len(before) - 1))
    assert names.rename("another", "a third") is None
    assert names.rename(before[place], "another") == place
    assert names.all() == [*before[:place], "another", *before[place + 1 :]]
    assert names.codes(["another", before[place]]).tolist() == [place, len(before)]
    assert names.rename(before[place], "another") == len(before)
    assert names.all()[-1] == "another+"
