"""The in-memory runtime keeps the promises that the stages count on."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streams.kafka.message import Message
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


def event(at_s: int) -> dict[str, Any]:
    return {
        "event_id": f"e{at_s}",
        "user_id": "anna",
        "episode_id": "e:1",
        "kind": "play",
        "occurred_at": datetime.fromtimestamp(at_s, UTC),
        "heard_ms": 0,
        "position_ms": 0,
    }


def test_a_handler_that_lingers_gets_what_others_send_meanwhile(settings: Settings) -> None:
    runtime = MemoryRuntime(build_graph(1), settings)
    runtime.clock.set(1_800_000_000.0)
    batching = runtime.start("batch_events").agents
    batching["user-events"] = replace(batching["user-events"], max_batch=1)
    agents = runtime.start("track_listening").agents
    agent, taken = agents["user-event-batches"], list[int]()

    async def handle(messages: list[Message]) -> None:
        taken.append(len(messages))
        await agent.handle(messages)

    agents["user-event-batches"] = replace(agent, handle=handle)
    for second in range(3):
        runtime.log.append("user-events", event(1_800_000_000 + second), key="anna")
    before = runtime.clock.monotonic()
    runtime.run(timers=False)
    assert len(runtime.log.records("user-event-batches")) == 3
    assert taken == [3]
    assert runtime.clock.monotonic() - before == pytest.approx(agent.linger_s, abs=1e-3)


def test_a_stage_is_told_that_partitions_move_and_has_its_tables_afterwards(
    settings: Settings,
) -> None:
    runtime = MemoryRuntime(build_graph(2), settings)
    context = runtime.start("recommend")
    runtime.put_rows("recommend", LISTENERS, {(1, b"anna"): b"state"})
    table, seen = context.table(LISTENERS), list[set[int]]()
    context.on_rebalance(lambda: seen.append(table.partitions()))
    runtime.rebalance("recommend")
    assert seen == [set(), {0, 1}]
    assert table.get(1, b"anna") == b"state"


def test_a_stage_that_raises_begins_anew_with_the_next_run(settings: Settings) -> None:
    runtime = MemoryRuntime(build_graph(1), settings)
    context = runtime.start("recommend")

    async def fail(_: list[Message]) -> None:
        context.table(LISTENERS).put(0, b"anna", b"never flushed")
        raise RuntimeError("a fault")

    agents = context.agents
    agents["user-event-batches"] = replace(agents["user-event-batches"], handle=fail)
    runtime.log.append("user-event-batches", b"garbage", partition=0)
    with pytest.raises(RuntimeError, match="a fault"):
        runtime.run()
    runtime.run()
    assert runtime.rows("recommend", LISTENERS) == {}
    assert len(runtime.log.records("user-event-batches.dlq")) == 1


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
