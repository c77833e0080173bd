"""Batches are a function of the log: of its records and offsets, not of how it was read."""

from __future__ import annotations

from io import BytesIO
from itertools import pairwise

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import columnar, files
from schemas.codec import frame
from schemas.registry import FixedRegistry
from streams.events.core import batching
from streams.events.core.batching import Batch, Chunk, PartitionBatcher, accounted_to, check
from streams.events.core.events import EventDecoder
from topology.graph import build_graph, declared_subjects

REGISTRY = FixedRegistry(declared_subjects(build_graph(2)))
DECODER = EventDecoder("user-events", REGISTRY)
NOW = 1_767_225_600_000
_SCHEMA = files.parsed("user_event")


def event(event_id: str, heard_ms: int = 0) -> bytes:
    buffer = BytesIO()
    record = {
        "event_id": event_id,
        "user_id": "ada",
        "episode_id": "pi:1",
        "kind": "play",
        "occurred_at": NOW,
        "heard_ms": heard_ms,
    }
    fastavro.schemaless_writer(buffer, _SCHEMA, record)
    return frame(REGISTRY.id_of("user-events-value"), buffer.getvalue())


logs = st.lists(
    st.one_of(
        st.sampled_from("abcdefg").map(event),
        st.sampled_from("abcdefg").map(lambda event_id: event(event_id, -1)),
        st.just(b"garbage"),
    ),
    max_size=40,
)
"""Few ids, so that they come again; an invalid event is no first occurrence of its id."""


def chunk(log: list[bytes], start: int, end: int, gap: int = 1) -> Chunk:
    return Chunk(
        [offset * gap for offset in range(start, end)], [NOW] * (end - start), log[start:end]
    )


def kept_by_definition(log: list[bytes], window: int) -> list[tuple[int, str]]:
    valid = {
        offset: event_id
        for offset, value in enumerate(log)
        for event_id in "abcdefg"
        if value == event(event_id)
    }
    return [
        (offset, event_id)
        for offset, event_id in valid.items()
        if not any(valid.get(o) == event_id for o in range(max(0, offset - window), offset))
    ]


def run(log: list[bytes], cuts: list[int], window: int) -> list[Batch]:
    batcher = PartitionBatcher(1, 0, window, DECODER)
    places = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    return [batcher.batch(chunk(log, start, end)) for start, end in pairwise(places)]


def rows(batches: list[Batch]) -> list[tuple[int, str]]:
    return [row for batch in batches for row in batch.events.select("offset", "event_id").rows()]


@given(logs, st.lists(st.integers(1, 40)), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_repeats_are_dropped_by_offsets_however_the_log_is_cut(
    log: list[bytes], cuts: list[int], window: int
) -> None:
    batches = run(log, cuts, window)
    assert rows(batches) == kept_by_definition(log, window)
    read = sum(b.events.height + b.repeats + len(b.refused) for b in batches)
    assert read == len(log)
    accounted = [o for b in batches for o in range(b.first_offset, b.last_offset + 1)]
    assert accounted == list(range(len(log)))


@given(logs, st.integers(0, 40), st.integers(0, 12), st.lists(st.integers(1, 40)))
@settings(max_examples=60, deadline=None)
def test_a_restart_changes_nothing(
    log: list[bytes], stop: int, window: int, cuts: list[int]
) -> None:
    stop = min(stop, len(log))
    before = run(log[:stop], cuts, window)
    again = PartitionBatcher(1, stop, window, DECODER)
    again.warm(chunk(log, max(0, stop - window), stop))
    after = [again.batch(chunk(log, stop, len(log)))] if stop < len(log) else []
    assert rows([*before, *after]) == kept_by_definition(log, window)


@given(st.lists(logs, min_size=1, max_size=5), st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_chunks_checked_together_are_as_if_checked_alone(
    several: list[list[bytes]], rows: int
) -> None:
    chunks = [chunk(log, 0, len(log)) for log in several if log]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "MAX_ROWS", rows)
        together = list(check(chunks, DECODER))
    assert len(together) == len(chunks)
    for one, checked in zip(chunks, together, strict=True):
        (alone,) = check([one], DECODER)
        assert checked.events.equals(alone.events)
        assert {place: str(why) for place, why in checked.refused.items()} == {
            place: str(why) for place, why in alone.refused.items()
        }


def test_a_batch_accounts_for_holes_and_for_refused_messages() -> None:
    batcher = PartitionBatcher(1, 3, 100, DECODER)
    first = batcher.batch(Chunk([5, 6], [NOW, NOW], [event("a"), b"garbage"]))
    second = batcher.batch(Chunk([9], [NOW], [b"garbage"]))
    assert (first.first_offset, first.last_offset, set(first.refused)) == (3, 6, {1})
    assert (second.first_offset, second.last_offset) == (7, 9)
    assert second.events.height == 0
    message = columnar.to_message(second.events, "user_event")
    assert columnar.from_message(message, "user_event").height == 0
    assert accounted_to(list(second.headers().items())) == 10


def test_rows_carry_their_source_and_fit_the_topic() -> None:
    batch = PartitionBatcher(7, 0, 100, DECODER).batch(Chunk([0], [NOW], [event("a")]))
    decoded = columnar.from_message(columnar.to_message(batch.events, "user_event"), "user_event")
    assert decoded.select("partition", "offset", "event_id", "kind").rows() == [(7, 0, "a", "play")]


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 8), st.integers(1, 120))
def test_cutting_keeps_every_message_within_limits(
    sizes: list[int], max_rows: int, max_bytes: int
) -> None:
    values = [bytes(size) for size in sizes]
    pieces = Chunk(range(len(sizes)), [0] * len(sizes), values).pieces(max_rows, max_bytes)
    assert [value for piece in pieces for value in piece.values] == values
    assert [offset for piece in pieces for offset in piece.offsets] == list(range(len(sizes)))
    for piece in pieces:
        assert 1 <= len(piece) <= max_rows
        assert len(piece) == 1 or sum(map(len, piece.values)) <= max_bytes  # type: ignore[arg-type]
