"""Canonical digests: two tables with the same rows have the same one, however they came to be.

Rows are put in order, numbers and times normalised, and the whole hashed with SHA-256. Neither
the order of rows and columns nor the width of an integer nor a time's unit makes a difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl


def canonical(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows in canonical form: columns by name, integers wide, times as UTC milliseconds."""
    shaped = rows.select(
        _normal(name, dtype).alias(name) for name, dtype in sorted(rows.schema.items())
    )
    return shaped.sort(shaped.columns)


def _normal(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if dtype.is_integer():
        return column.cast(pl.Int64)
    if isinstance(dtype, pl.Datetime):
        return column.dt.epoch("ms")
    if isinstance(dtype, pl.Date):
        return column.cast(pl.Int32).cast(pl.Int64)
    if isinstance(dtype, pl.String | pl.Enum | pl.Categorical):
        return column.cast(pl.String)
    raise TypeError(f"column {name} is {dtype}: a digest takes text, integers and times")


def digest(rows: pl.DataFrame) -> str:
    """SHA-256 of the canonical rows, in hexadecimal. TypeError for columns that are not exact."""
    shaped = canonical(rows)
    names = shaped.columns
    sha = hashlib.sha256("\x1f".join(names).encode())
    for part in shaped.iter_slices(100_000):
        # JSON keeps text apart from text, whatever is in it
        lines = part.select(pl.struct(names).struct.json_encode()).to_series()
        sha.update(("\n" + "\n".join(lines.to_list())).encode())
    return sha.hexdigest()


def combined(digests: Iterable[str]) -> str:
    """The digest of several tables, out of theirs in this order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@dataclass(frozen=True)
class Difference:
    """A key whose row is not the same on both sides; None where a side has none."""

    key: dict[str, object]
    rebuilt: dict[str, object] | None
    live: dict[str, object] | None


def differences(
    rebuilt: pl.DataFrame, live: pl.DataFrame, key: Sequence[str], limit: int = 10
) -> list[Difference]:
    """The first keys, in order, at which two tables with the same columns differ."""
    amounts = [name for name in rebuilt.columns if name not in key]
    both = rebuilt.with_columns(_here=True).join(
        live.select(rebuilt.columns).with_columns(_here=True),
        on=list(key),
        how="full",
        suffix="_live",
        coalesce=True,
    )
    same = pl.all_horizontal(pl.col(n).eq_missing(pl.col(f"{n}_live")) for n in [*amounts, "_here"])
    found = []
    for row in both.filter(~same).sort(key).head(limit).iter_rows(named=True):
        ours = {name: row[name] for name in amounts} if row["_here"] else None
        theirs = {name: row[f"{name}_live"] for name in amounts} if row["_here_live"] else None
        found.append(Difference({name: row[name] for name in key}, ours, theirs))
    return found
