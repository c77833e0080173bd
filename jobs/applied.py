"""How far a Delta table has got, by what its own rows say, without reading all of them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
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
    rows = table.to_pyarrow_dataset()
    applied: dict[int, int] = {}
    if (newest := _newest(table, source)) is not None:
        _read(rows, source, ds.field(source[1]) >= newest, applied)
    _read(rows, source, _above(rows.schema, source, applied) if applied else None, applied)
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


def _above(schema: pa.Schema, source: tuple[str, str], applied: dict[int, int]) -> ds.Expression:
    """Which rows lie above what is known, so that files can be told from others."""
    partition, offset = map(ds.field, source)
    kind = schema.field(source[1]).type

    def beyond(last: int) -> ds.Expression:
        at = pa.scalar(last, pa.timestamp("ms", "UTC")) if pa.types.is_timestamp(kind) else last
        return offset > at

    if source[0] not in schema.names:
        return beyond(applied[0])
    # Statistics are a range: a partition between two that are known is looked for by its number.
    low, high = min(applied), max(applied)
    more = (partition < low) | (partition > high)
    for number in range(low, high + 1):
        here = partition == number
        more |= here & beyond(applied[number]) if number in applied else here
    return more


def _read(
    rows: ds.Dataset, source: tuple[str, str], which: ds.Expression | None, applied: dict[int, int]
) -> None:
    wanted = [name for name in source if name in rows.schema.names]
    for batch in rows.to_batches(columns=wanted, filter=which):
        if len(wanted) < len(source):  # one source partition, which the table does not name
            batch = batch.append_column(source[0], pa.array([0] * len(batch), pa.int32()))
        drop_repeats(pa.table(batch), source, applied)
