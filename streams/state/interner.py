"""Strings by number, many at a time, at a cost that does not grow with how many there are.

A dict of strings costs several cache misses for each string once it is larger than the cache.
Here polars hashes a whole column, and the hashes are found in a `ColumnarHashTable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from streams.state.hash_table import ColumnarHashTable

_SEED = hash("names") & 0xFFFF_FFFF
"""Python's own seed, another one in each process: nobody can make up strings that collide.
Numbers do not depend on it."""

_OTHER = 1 << 40


@dataclass(frozen=True, slots=True)
class Hashed:
    """Some rows of a column of strings, with their hashes: choosing among them costs little."""

    column: pl.Series
    rows: np.ndarray
    """Places in the column."""
    keys: np.ndarray
    checks: np.ndarray
    """The two hashes of each row: int64."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: np.ndarray | slice) -> Hashed:
        """The rows of a mask, or at these places."""
        return Hashed(self.column, self.rows[chosen], self.keys[chosen], self.checks[chosen])

    def strings(self) -> pl.Series:
        """The strings themselves, row by row."""
        return self.column[self.rows]


def hashes_of(name: str) -> tuple[pl.Expr, pl.Expr]:
    """The hashes of a column, for a selection that computes more than them."""
    return (
        pl.col(name).hash(_SEED).alias(f"{name} key"),
        pl.col(name).hash(_SEED ^ _OTHER).alias(f"{name} check"),
    )


def hashed(column: pl.Series, selected: pl.DataFrame) -> Hashed:
    """A column whose hashes are among those ``selected``."""
    keys, checks = (selected[f"{column.name} {part}"].to_numpy() for part in ("key", "check"))
    return Hashed(column, np.arange(len(column)), keys.view(np.int64), checks.view(np.int64))


def hash_strings(column: pl.Series, seed: int = _SEED) -> Hashed:
    """All rows of a column."""
    return Hashed(column, np.arange(len(column)), *_hashes(column, seed))


class StringInterner:
    """Strings by number: 0, 1, 2 … in the order in which they came.

    A string is known by 128 bits of two hashes. The first finds it; where the second then differs,
    two strings share the first, and everything is hashed anew.
    """

    def __init__(self) -> None:
        self._seed = _SEED
        self._reported = 0
        self._clear()

    def _clear(self) -> None:
        self._names: list[str] = []
        self._index = ColumnarHashTable({"code": "i8", "check": "i8"})

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, code: int) -> str:
        return self._names[code]

    def codes(self, strings: Hashed | pl.Series | Sequence[str]) -> np.ndarray:
        """The number of each string, a new one for those not seen before: int64."""
        if not isinstance(strings, Hashed) or self._seed != _SEED:
            column = strings.strings() if isinstance(strings, Hashed) else strings
            strings = hash_strings(pl.Series(column, dtype=pl.String), self._seed)
        while (codes := self._codes(strings)) is None:
            self._hash_anew()
            strings = hash_strings(strings.strings(), self._seed)
        return codes

    def _codes(self, strings: Hashed) -> np.ndarray | None:
        """The numbers; None, and no string is new, if two strings have the same hash."""
        known = len(self._index)
        slots = self._index.upsert(strings.keys)
        first = np.zeros(len(self._index) - known, np.int64)
        if first.size:
            (new,) = (slots >= known).nonzero()
            # Of several places of one string the first is written last.
            first[slots[new[::-1]] - known] = new[::-1]
            self._index["check"][known:] = strings.checks[first]
        if (self._index["check"][slots] != strings.checks).any():
            return None
        if first.size:
            order = first.argsort()  # numbers are given by first appearance, not by hash
            self._index["code"][known:][order] = np.arange(len(self), len(self) + len(first))
            self._names += strings.take(first[order]).strings().to_list()
        codes: np.ndarray = self._index["code"][slots]
        return codes

    def rename(self, old: str, new: str) -> int | None:
        """Give the number of a string to another one, and say which; None if it has no number.

        The other one gets as many `+` at its end as it takes to be new. What `added` gives does not
        tell of it.
        """
        if old not in self._names:
            return None
        while new in self._names:
            new += "+"
        code = self._names.index(old)
        self._names[code] = new
        self._index_anew()
        return code

    def _hash_anew(self) -> None:
        self._seed += 1
        self._index_anew()

    def _index_anew(self) -> None:
        names = self._names
        self._clear()
        self.codes(names)

    def of(self, codes: np.ndarray) -> list[str]:
        """The strings of numbers."""
        names = self._names
        return [names[code] for code in codes.tolist()]

    def added(self) -> list[str]:
        """The strings that came since `forget_changes`, in the order of their numbers."""
        return self._names[self._reported :]

    def forget_changes(self) -> None:
        """No string counts as added from here on."""
        self._reported = len(self)

    def all(self) -> list[str]:
        """Every string, by its number."""
        return self._names

    def load(self, first: int, strings: Iterable[str]) -> None:
        """Take over strings that `added` gave, the first of them with the number ``first``."""
        given = list(strings)
        codes = self.codes(given)
        if (codes != np.arange(first, first + len(given))).any():
            raise ValueError(f"{given[:3]}… have the numbers {codes[:3]}…, not {first}…")
        self.forget_changes()

    def keep(self, used: np.ndarray) -> np.ndarray:
        """Forget the others of these numbers, a mask; gives the new number of each old one."""
        names = [name for name, kept in zip(self._names, used.tolist(), strict=True) if kept]
        self._clear()
        self.codes(names)
        return np.cumsum(used) - 1


def _hashes(strings: pl.Series, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two hashes of each string, int64."""
    one, two = strings.hash(seed), strings.hash(seed ^ _OTHER)
    return one.to_numpy().view(np.int64), two.to_numpy().view(np.int64)
