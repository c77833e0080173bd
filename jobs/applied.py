"""How far a Delta table has got, by what its own rows say, without reading all of them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable as DeltaLog

from jobs.core.facts import drop_repeats

FIRST_FILES = 4
"""Files with the highest offsets, which are read first: the others seldom have anything to add."""


def read_applied(path: str, source: tuple[str, str]) -> dict[int, int]:
    """Source partition -> highest source offset that a table holds, by delta-rs.

    The newest files are read, and then of the others only those which, by the statistics in the
    table's log, may hold more: what it takes does not grow with the table. A partition in which
    nothing has happened for long has more of them read.
    """
    table = DeltaLog(path)
    applied: dict[int, int] = {}
    if (newest := _newest(table, source)) is not None:
        _read(table, source, f"{source[1]} >= {_literal(newest)}", applied)
    _read(table, source, _above(table, source, applied) if applied else None, applied)
    return applied


def _newest(table: DeltaLog, source: tuple[str, str]) -> pa.Scalar | None:
    """The highest offset of the last of the `FIRST_FILES`; None where there are no more."""
    added = pa.table(table.get_add_actions(flatten=True))
    name = f"max.{source[1]}"
    highest = added[name].drop_null() if name in added.column_names else []
    if len(highest) <= FIRST_FILES:
        return None
    order = pc.sort_indices(highest, sort_keys=[("", "descending")])
    return highest[order[FIRST_FILES - 1].as_py()]


def _literal(offset: pa.Scalar) -> str:
    """An offset in SQL, or a time that serves as one."""
    if pa.types.is_timestamp(offset.type):
        return f"'{offset.as_py().isoformat()}'"
    return str(offset.as_py())


def _above(table: DeltaLog, source: tuple[str, str], applied: dict[int, int]) -> str:
    """Which rows lie above what is known, in SQL: by it whole files are left out."""
    partition, offset = source
    fields = {field.name: field.type for field in table.schema().fields}
    is_time = str(getattr(fields[offset], "type", "")).startswith("timestamp")

    def beyond(last: int) -> str:
        kind = pa.timestamp("ms", "UTC") if is_time else pa.int64()
        return f"{offset} > {_literal(pa.scalar(last, kind))}"

    if partition not in fields:
        return beyond(applied[0])
    # Statistics are a range: a partition between two that are known is looked for by its number.
    low, high = min(applied), max(applied)
    more = [f"{partition} < {low}", f"{partition} > {high}"]
    for number in range(low, high + 1):
        here = f"{partition} = {number}"
        more.append(f"({here} AND {beyond(applied[number])})" if number in applied else here)
    return " OR ".join(more)


def _read(
    table: DeltaLog, source: tuple[str, str], which: str | None, applied: dict[int, int]
) -> None:
    """Take in the rows of the files that may have what is asked for; of all files with None."""
    rows = table.to_pyarrow_dataset(file_pruning_predicate=which)
    wanted = [name for name in source if name in rows.schema.names]
    for batch in rows.to_batches(columns=wanted):
        if len(wanted) < len(source):  # one source partition, which the table does not name
            batch = batch.append_column(source[0], pa.array([0] * len(batch), pa.int32()))
        drop_repeats(pa.table(batch), source, applied)
