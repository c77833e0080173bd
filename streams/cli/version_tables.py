"""What a person sees of two versions side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from streams.operations.core.version_diff import TableDiff
from streams.operations.version_diff import VersionDiff


def diff_tables(found: VersionDiff) -> Iterator[Table]:
    """All tables and whether they agree; then, of each that does not, what differs most."""
    overview = Table(
        "table",
        f"rows {found.a}",
        f"rows {found.b}",
        "changed",
        "moving",
        "digests",
        title="Tables",
    )
    for one in found.tables:
        changed = one.changed + one.only_a + one.only_b
        told = "DIFFER" if one.differs else f"agree {one.digests[0][:12]}"
        counts = (one.rows_a, one.rows_b, changed, one.moving)
        overview.add_row(one.table, *(f"{count:,}" for count in counts), told)
    yield overview
    for one in found.tables:
        if one.differs:
            yield _sums(found, one)
            yield _largest(found, one)


def _sums(found: VersionDiff, one: TableDiff) -> Table:
    table = Table("metric", found.a, found.b, "difference", title=f"{one.table}: sums")
    for name in one.changed_metrics():
        a, b = one.sums[name]
        table.add_row(name, f"{a:,}", f"{b:,}", f"{b - a:+,}")
    return table


def _largest(found: VersionDiff, one: TableDiff) -> Table:
    table = Table("key", found.a, found.b, title=f"{one.table}: largest differences")
    for difference in one.largest:
        a, b = difference.a, difference.b
        names = [
            name for name in (a or b or {}) if a is None or b is None or a.get(name) != b.get(name)
        ]
        key = ", ".join(str(value) for value in difference.key.values())
        table.add_row(key, _values(a, names), _values(b, names))
    return table


def _values(row: Mapping[str, Any] | None, names: list[str]) -> str:
    if row is None:
        return "no row"
    return ", ".join(f"{name} {row[name]}" for name in names)
