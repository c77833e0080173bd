"""A partition without news is told of a minute after its last record, then ever more seldom."""

from __future__ import annotations

from schemas.registry import FixedRegistry
from streams.events.core.batching import Chunk, PartitionBatcher
from streams.events.core.events import EventDecoder
from streams.events.core.origins import Source
from streams.events.core.quiet import FIRST_AFTER_S, LONGEST_S, QuietPartitions
from streams.kafka.quiet import quiet_to
from topology.graph import build_graph, declared_subjects

DECODER = EventDecoder("user-events", FixedRegistry(declared_subjects(build_graph(1))))


def test_it_is_due_less_and_less_often_until_something_comes() -> None:
    quiet = QuietPartitions()
    quiet.heard([3], 0.0)
    assert [now for now in range(1000) if quiet.due(now)] == [60, 180, 420, 900]
    assert [now for now in range(1000, 20_000) if quiet.due(now)][-1] > 20_000 - LONGEST_S
    quiet.heard([3], 20_000.0)
    assert not quiet.due(20_000 + FIRST_AFTER_S - 1)
    assert quiet.due(20_000 + FIRST_AFTER_S) == [3]


def test_each_partition_is_looked_at_for_itself_as_long_as_it_is_owned() -> None:
    quiet = QuietPartitions()
    quiet.heard([0, 1], 0.0)
    quiet.heard([1], 30.0)
    assert quiet.due(FIRST_AFTER_S) == [0]
    assert quiet.due(FIRST_AFTER_S + 30) == [1]
    quiet.forget(0)
    quiet.forget(0)
    assert quiet.due(10 * LONGEST_S) == [1]


def test_what_is_said_accounts_for_no_record_and_repeats_the_tally() -> None:
    batcher = PartitionBatcher(0, 0, 10, DECODER, Source("topic", 1, 1_048_588))
    batcher.tally.repeated = 7
    records = batcher.batch(Chunk([0, 1], [5, 6], [b"garbage", b"garbage"]))
    said = batcher.quiet(1_767_225_600_000)
    assert (said.first_offset, said.last_offset, said.events.height) == (2, 1, 0)
    assert said.events.schema == records.events.schema
    assert said.tally == records.tally
    assert quiet_to(said.headers().items()) == 1_767_225_600_000
    assert quiet_to(records.headers().items()) is None
    assert batcher.batch(Chunk([2], [7], [b"garbage"])).first_offset == 2
