"""The in-memory runtime keeps the promises that the stages count on."""

from pathlib import Path
from typing import Any

import pytest

from streams.runtime.in_memory import MemoryLog, MemoryRuntime
from topology.graph import UndeclaredError, build_graph, check_reads, check_writes
from topology.settings import Settings
from topology.tables import ENGAGEMENT_STATE, LISTENERS


@pytest.fixture
def settings(tmp_path: Path) -> Any:
    return Settings(podstream_home=tmp_path, _env_file=None)


def test_offsets_count_up_within_a_partition_and_a_key_keeps_its_partition() -> None:
    log = MemoryLog(build_graph(4))
    first = log.append("user-events", b"x", key="anna")
    second = log.append("user-events", b"y", key="anna")
    assert (second.partition, second.offset) == (first.partition, first.offset + 1)


def test_a_crash_keeps_tables_and_brings_messages_again(settings: Settings) -> None:
    graph = build_graph(1)
    runtime = MemoryRuntime(graph, settings)
    context = runtime.start("recommend")
    runtime.put_rows("recommend", LISTENERS, {(0, b"anna"): b"state"})
    context.table(LISTENERS).put(0, b"anna", b"never flushed")
    runtime.crash("recommend")
    assert runtime.rows("recommend", LISTENERS) == {(0, b"anna"): b"state"}


def test_a_stage_may_only_touch_what_it_declares() -> None:
    stage = build_graph(4).stages["track_engagement"]
    check_reads(stage, "user-event-batches")
    check_writes(stage, "engagement-windows")
    check_writes(stage, "user-event-batches.dlq")
    with pytest.raises(UndeclaredError, match="track_engagement reads topic 'recommendations'"):
        check_reads(stage, "recommendations")
    with pytest.raises(UndeclaredError, match="track_engagement writes topic 'user-events'"):
        check_writes(stage, "user-events")


def test_an_undeclared_table_is_refused_at_start(settings: Settings) -> None:
    context = MemoryRuntime(build_graph(1), settings).start("recommend")
    with pytest.raises(UndeclaredError, match="opens table 'engagement_state'"):
        context.table(ENGAGEMENT_STATE)
    make: Any = None
    with pytest.raises(UndeclaredError, match=r"opens table 'listeners' \(log\)"):
        context.states(LISTENERS, make)
