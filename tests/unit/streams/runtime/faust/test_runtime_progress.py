"""How far a worker's tables are restored, as its watchdog asks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from streams.runtime.faust.runner import FaustContext


def progress(**offsets: int | None) -> Any:
    recovery = SimpleNamespace(active_offsets=offsets)
    app = SimpleNamespace(consumer_generation_id=7, tables=SimpleNamespace(recovery=recovery))
    return FaustContext.progress(SimpleNamespace(app=app))  # type: ignore[arg-type]


def test_a_partition_just_taken_over_is_where_nothing_is_restored() -> None:
    assert progress(a=3, b=None) == (7, 3)
    assert progress(a=3, b=4) != progress(a=3, b=None)
