"""Which records a sequencer takes: those of its partitions that no batch accounts for yet."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.registry import FixedRegistry
from streams.events.core.batching import Batch, Chunk, PartitionBatcher
from streams.events.core.events import EventDecoder
from streams.events.core.origins import Source
from streams.events.core.sequencing import Flush, Refusal, Resumption, Sequencer
from topology.graph import build_graph, declared_subjects

DECODER = EventDecoder("user-events", FixedRegistry(declared_subjects(build_graph(2))))
NOW = 1_767_225_600_000


def columns(offsets: Sequence[int]) -> Chunk:
    """Records that decode to nothing: only where they stand matters here."""
    return Chunk(offsets, [NOW] * len(offsets), [b"garbage"] * len(offsets))


def owner_of(partition: int, next_offset: int, refused: Sequence[int] = ()) -> Sequencer[int]:
    sequencer = Sequencer(DECODER, columns)
    batcher = PartitionBatcher(partition, next_offset, 100, DECODER, Source("", 2, 1_048_588))
    sequencer.own(Resumption(batcher, frozenset(refused)))
    return sequencer


def test_records_of_a_partition_that_is_not_owned_are_passed_over() -> None:
    sequencer = owner_of(1, 0)
    assert list(sequencer.steps({0: [0, 1], 1: []})) == []
    sequencer.disown(1)
    sequencer.disown(1)
    assert not sequencer.owns(1)
    assert list(sequencer.steps({1: [0, 1]})) == []
    assert not sequencer.counts


def test_records_that_a_batch_accounts_for_are_passed_over() -> None:
    sequencer = owner_of(1, 3)
    *refusals, flush, batch = sequencer.steps({1: [1, 2, 3, 4]})
    assert [one.record for one in refusals if isinstance(one, Refusal)] == [3, 4]
    assert isinstance(flush, Flush)
    assert isinstance(batch, Batch)
    assert (batch.first_offset, batch.last_offset) == (3, 4)
    assert sequencer.counts["read"] == sequencer.counts["refused"] == 2


def test_what_was_refused_before_a_kill_is_not_refused_again_but_accounted_for() -> None:
    first, *others = owner_of(1, 3, refused=[3]).steps({1: [3, 4]})
    assert isinstance(first, Refusal)
    assert first.record == 4
    assert [type(step) for step in others] == [Flush, Batch]
