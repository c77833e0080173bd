"""Tables of what waits for another try: changed by a handler and by a timer, side by side."""

from __future__ import annotations

from streams.context import StateTable
from streams.newest import Place


def still(table: StateTable, place: Place, value: bytes) -> bool:
    """Whether a place is ours and as it was: nothing newer came, and no other worker has it."""
    return place[0] in table.partitions() and table.get(*place) == value


def keep(table: StateTable, place: Place, value: bytes | None) -> None:
    """Make a table hold a value, or none, and write only where it does not."""
    before = table.get(*place)
    if value is None and before is not None:
        table.delete(*place)
    elif value is not None and value != before:
        table.put(*place, value)
