"""Rows of a file to events, thousands at once: what `parse_event` makes of each, column by column.

Rows whose values are spelt as programs mostly spell them take this way; whatever is spelt otherwise
is for `parse_event` to read, row by row, and so are all rows of a chunk of mixed types.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from operator import itemgetter
from typing import Any

import numpy as np
import polars as pl

from schemas import columnar
from streams.events.core.events import check_events
from streams.operations.core.imports import (
    EVENT_COLUMNS,
    EVENT_INTEGERS,
    EVENT_REQUIRED,
    EVENT_TIMES,
    IDENTITY,
    KINDS,
    UNIX_SECONDS,
    UNIX_UNITS,
    Rows,
    identity_hash,
    milliseconds,
    parse_events,
)
from streams.operations.core.table import Table

_TEXTS = tuple(name for name in EVENT_COLUMNS if name not in (*EVENT_INTEGERS, *EVENT_TIMES))
_SCHEMA = pl.Schema(
    {
        name: pl.String() if name in _TEXTS and name != "kind" else pl.Int64()
        for name in EVENT_COLUMNS
    }
    | {"kind": columnar.columns("user_event")["kind"]}
)

_ODD_START = r"^[\s\x00-\x20\x7f-\xa0]"
"""What may be a blank: Python and polars do not agree on each of them."""

_WHOLE = r"^[0-9]{1,18}$"
_ISO = (
    r"^(19|20)\d\d-[01]\d-[0-3]\d[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{3}(\d{3})?)?"
    r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?$"
)
_OFFSET = r"([+-])(\d\d):(\d\d)$"


class _Otherwise(Exception):
    """The values of this column are to be read one by one."""


def parse_columns(read: Rows, now_ms: int) -> tuple[pl.DataFrame, list[tuple[int, str]]]:
    """Valid events in the order of the rows, and (line, reason) of the other rows.

    The frame has the column `line` beside EVENT_COLUMNS, times in milliseconds. ``now_ms`` is the
    time at which the rows enter the log: they cannot be from the future.
    """
    lines = np.array(read.lines, np.int64)
    try:
        quick, odd = _quick(read.rows)
    except _Otherwise:
        quick, odd = None, np.ones(len(lines), bool)
    refused = list(read.refused)
    frames = [pl.DataFrame(schema={**_SCHEMA, "line": pl.Int64()})]
    if quick is not None and not odd.all():
        straight = np.flatnonzero(~odd)
        found = (quick if len(straight) == len(odd) else quick[straight]).with_columns(
            pl.Series("row", straight, pl.UInt32), pl.lit(now_ms, pl.Int64).alias("log_ms")
        )
        good, bad = check_events(_with_ids(found))
        refused += [(int(lines[place]), str(reason)) for place, reason in bad.items()]
        good = good.with_columns(pl.Series("line", lines[good["row"].to_numpy()]))
        frames.append(good.select(frames[0].columns))
    if odd.any():
        places = np.flatnonzero(odd).tolist()
        some = Rows([read.lines[place] for place in places], [read.rows[place] for place in places])
        frame, bad_ones = _one_by_one(some, now_ms)
        frames.append(frame)
        refused += bad_ones
    events = frames[1] if len(frames) == 2 else pl.concat(frames).sort("line")
    return events, sorted(refused)


def _one_by_one(rows: Rows, now_ms: int) -> tuple[pl.DataFrame, list[tuple[int, str]]]:
    events, refused = parse_events(rows, now_ms)
    gone = {line for line, _ in refused}
    return event_frame(events, [line for line in rows.lines if line not in gone]), refused


def event_frame(
    events: Sequence[dict[str, Any]], lines: Sequence[int] | None = None
) -> pl.DataFrame:
    """Records of `parse_event` as a frame of `parse_columns`; without ``lines`` counted from 1."""
    numbers = range(1, len(events) + 1) if lines is None else lines
    frame = pl.DataFrame(events, schema=_SCHEMA, orient="row")
    return frame.with_columns(pl.Series("line", numbers, pl.Int64))


def _quick(rows: Sequence[Any]) -> tuple[pl.DataFrame, np.ndarray]:
    """The events of all rows, and which rows are not to be read so: what stands there is wrong."""
    columns, odd = {}, np.zeros(len(rows), bool)
    there = _by_column(rows)
    for name in EVENT_COLUMNS:
        values = there.get(name, ())
        kinds = set(map(type, values))
        if kinds <= {type(None)}:
            series, wrong = pl.Series([None], dtype=_SCHEMA[name]), None
            series = series.new_from_index(0, len(rows))
        elif name in EVENT_TIMES:
            series, wrong = _times(values, kinds)
        elif name in EVENT_INTEGERS:
            series, wrong = _integers(values, kinds)
        else:
            series, wrong = _texts(values, kinds)
        if name == "kind":
            known = series.is_in(list(KINDS)).fill_null(False).to_numpy()
            odd |= ~known
            series = pl.select(pl.when(pl.lit(pl.Series(known))).then(series)).to_series()
            series = series.cast(_SCHEMA[name])
        if name in EVENT_REQUIRED:
            odd |= series.is_null().to_numpy()
        if wrong is not None:
            odd |= wrong
        if (default := EVENT_INTEGERS.get(name)) is not None:
            series = series.fill_null(default)
        columns[name] = series.alias(name)
    return pl.DataFrame(columns), odd


def _by_column(rows: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """The values of those of EVENT_COLUMNS that some row has: None where a row has none."""
    if isinstance(rows, Table):
        texts = rows.by_name()
        return {name: texts[name] for name in EVENT_COLUMNS if name in texts}
    names = tuple(rows[0]) if rows else ()
    if len(names) > 1 and set(map(len, rows)) == {len(names)}:
        try:  # row by row is faster than column by column, where all rows have the same columns
            columns = zip(*map(itemgetter(*names), rows), strict=True)
            found = dict(zip(names, columns, strict=True))
            return {name: found[name] for name in EVENT_COLUMNS if name in found}
        except KeyError:
            pass
    there = set().union(*rows)
    return {name: [row.get(name) for row in rows] for name in EVENT_COLUMNS if name in there}


def _texts(values: Sequence[Any], kinds: set[type]) -> tuple[pl.Series, np.ndarray]:
    if not kinds <= {str, type(None)}:
        raise _Otherwise
    try:
        series = pl.Series(values, dtype=pl.String)
    except UnicodeEncodeError:
        raise _Otherwise from None
    empty = series == ""
    odd = ((series < "!") | (series >= "\x7f")).fill_null(False)
    if odd.any():
        odd &= series.str.contains(_ODD_START).fill_null(False)
    return series.set(empty.fill_null(False), None) if empty.any() else series, odd.to_numpy()


def _integers(values: Sequence[Any], kinds: set[type]) -> tuple[pl.Series, np.ndarray | None]:
    if kinds <= {int, type(None)}:
        try:
            return pl.Series(values, dtype=pl.Int64), None
        except (OverflowError, pl.exceptions.PolarsError, TypeError):
            raise _Otherwise from None
    texts, odd = _texts(values, kinds)
    whole = texts.str.contains(_WHOLE)
    return texts.cast(pl.Int64, strict=False), odd | ~whole.fill_null(True).to_numpy()


def _times(values: Sequence[Any], kinds: set[type]) -> tuple[pl.Series, np.ndarray]:
    if kinds == {datetime}:
        told = [milliseconds(_aware(value)) for value in values]
        return pl.Series(told, dtype=pl.Int64), np.zeros(len(values), bool)
    if kinds <= {int, type(None)}:
        numbers, _ = _integers(values, kinds)
        return _unix(numbers)
    if date in kinds or not kinds <= {str, type(None)}:
        raise _Otherwise
    texts, odd = _texts(values, kinds)
    if texts.str.contains(_WHOLE).all():
        moments, unreadable = _unix(texts.cast(pl.Int64))
        return moments, odd | unreadable
    iso = texts.str.contains(_ISO)
    day = texts.str.slice(0, 19)
    if texts.str.contains(" ", literal=True).any():
        day = day.str.slice(0, 10) + "T" + day.str.slice(11)
    seconds = day.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="ms", strict=False)
    moments = seconds.dt.epoch("ms")
    if texts.str.contains(".", literal=True).any():
        # No number without a fraction: an offset's third sign is a colon.
        moments = moments + texts.str.slice(20, 3).cast(pl.Int64, strict=False).fill_null(0)
    if texts.str.contains(_OFFSET).any():
        minutes = texts.str.extract(_OFFSET, 2).cast(pl.Int64) * 60
        minutes = minutes + texts.str.extract(_OFFSET, 3).cast(pl.Int64)
        east = texts.str.extract(_OFFSET, 1).replace_strict({"+": 1, "-": -1}, default=None)
        moments = moments - (minutes * east).fill_null(0) * 60_000
    readable = iso.fill_null(False) & moments.is_not_null()
    return moments, odd | ~readable.to_numpy()


def _aware(value: datetime) -> datetime:
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise _Otherwise from None


def _unix(numbers: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Unix time in whichever unit lies where `parse_time` takes it, and where none does."""
    first, end = UNIX_SECONDS
    found = np.zeros(len(numbers), np.int64)
    values = numbers.fill_null(0).to_numpy()
    readable = np.zeros(len(values), bool)
    for unit in UNIX_UNITS:
        fits = ~readable & (values >= first * unit) & (values < end * unit)
        told = values * (1000 // unit) if unit <= 1000 else values // (unit // 1000)
        found = np.where(fits, told, found)
        readable |= fits
    return pl.Series(found), ~readable


def _with_ids(events: pl.DataFrame) -> pl.DataFrame:
    missing = events["event_id"].is_null()
    if not missing.any():
        return events
    fields = events.filter(missing).select(IDENTITY).with_columns(pl.col("kind").cast(pl.String))
    made = pl.Series([identity_hash(row) for row in fields.iter_rows()], dtype=pl.String)
    ids = events["event_id"].to_list()
    for place, event_id in zip(np.flatnonzero(missing.to_numpy()).tolist(), made, strict=True):
        ids[place] = event_id
    return events.with_columns(pl.Series("event_id", ids, pl.String))
