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
from streams.events.core.batching import (
    Batch,
    Chunk,
    PartitionBatcher,
    accounted_to,
    check,
)
from streams.events.core.events import EventDecoder
from streams.events.core.origins import Headers, Source, import_sender, origin, tally_of
from topology.graph import build_graph, declared_subjects

REGISTRY = FixedRegistry(declared_subjects(build_graph(2)))
DECODER = EventDecoder("user-events", REGISTRY)
# Kafka's ids of topics are base64: one in three has a slash.
TOPIC_ID = "the/topic"
SOURCE = Source(TOPIC_ID, 2, 1_048_588)
"""In which `ada` belongs to partition 1, and `bob` to partition 0."""

NOW = 1_767_225_600_000
_SCHEMA = files.parsed("user_event")


def event(event_id: str, heard_ms: int = 0, user_id: str = "ada", **more: str) -> bytes:
    buffer = BytesIO()
    record = {
        "event_id": event_id,
        "user_id": user_id,
        "episode_id": "pi:1",
        "kind": "play",
        "occurred_at": NOW,
        "heard_ms": heard_ms,
        **more,
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
    batcher = PartitionBatcher(1, 0, window, DECODER, SOURCE)
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
    again = PartitionBatcher(1, stop, window, DECODER, SOURCE)
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
        together = list(check(chunks, DECODER, 2))
    assert len(together) == len(chunks)
    for one, checked in zip(chunks, together, strict=True):
        (alone,) = check([one], DECODER, 2)
        assert checked.events.equals(alone.events)
        assert {place: str(why) for place, why in checked.refused.items()} == {
            place: str(why) for place, why in alone.refused.items()
        }


def test_a_batch_accounts_for_holes_and_for_refused_messages() -> None:
    batcher = PartitionBatcher(1, 3, 100, DECODER, SOURCE)
    first = batcher.batch(Chunk([5, 6], [NOW, NOW], [event("a"), b"garbage"]))
    second = batcher.batch(Chunk([9], [NOW], [b"garbage"]))
    assert (first.first_offset, first.last_offset, set(first.refused)) == (3, 6, {1})
    assert (second.first_offset, second.last_offset) == (7, 9)
    assert second.events.height == 0
    message = columnar.to_message(second.events, "user_event")
    assert columnar.from_message(message, "user_event").height == 0
    assert accounted_to(list(second.headers().items())) == 10


def test_rows_carry_their_source_and_fit_the_topic() -> None:
    batch = PartitionBatcher(1, 0, 100, DECODER, SOURCE).batch(Chunk([0], [NOW], [event("a")]))
    decoded = columnar.from_message(columnar.to_message(batch.events, "user_event"), "user_event")
    assert decoded.select("partition", "offset", "event_id", "kind").rows() == [(1, 0, "a", "play")]


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


def test_two_listeners_may_have_events_of_one_id() -> None:
    # Both belong to partition 1 of 2.
    log = [event("1"), event("1", user_id="ada-2"), event("1"), event("1", user_id="ada-2")]
    places = Source(TOPIC_ID, 1, 1_048_588)
    batch = PartitionBatcher(0, 0, 100, DECODER, places).batch(chunk(log, 0, 4))
    assert batch.events.select("offset", "user_id").rows() == [(0, "ada"), (1, "ada-2")]
    assert batch.repeats == 2
    assert tally_of(list(batch.headers().items())).repeated == 2


def test_ids_that_change_places_are_no_repeat() -> None:
    log = [event("one", user_id="two"), event("two", user_id="one"), event("one", user_id="one")]
    batch = PartitionBatcher(0, 0, 100, DECODER, Source("", 1, 1_048_588)).batch(chunk(log, 0, 3))
    assert batch.events.height == 3


def moved(offsets: list[int], values: list[bytes], headers: list[Headers]) -> Batch:
    batcher = PartitionBatcher(0, 0, 100, DECODER, SOURCE)
    return batcher.batch(Chunk(offsets, [NOW] * len(offsets), values, headers))


def test_an_event_in_anothers_partition_is_handed_over_and_not_counted() -> None:
    values = [event("a"), event("b", user_id="bob"), event("c", heard_ms=-1), event("d")]
    plain: list[Headers] = [None, (), None, (("client.id", b"app"), ("trace", b"7"))]
    batch = moved([3, 5, 6, 9], values, plain)
    assert batch.events["event_id"].to_list() == ["b"]
    assert set(batch.refused) == {2}
    assert {place: (one.partition, one.key) for place, one in batch.moves.items()} == {
        0: (1, b"ada"),
        3: (1, b"ada"),
    }
    tally = tally_of(list(batch.headers().items()))
    assert (tally.moved, tally.clients) == (2, {"unknown": 1, "app": 1})


def test_what_is_too_large_to_be_handed_over_is_refused() -> None:
    # Headers without bytes take some in the log all the same.
    many: Headers = [("", b"")] * 20_000
    values = [event("a" * 1_000), event("b"), event("c", user_id="bob")]
    places = Source(TOPIC_ID, 2, 1_000)
    batcher = PartitionBatcher(0, 0, 100, DECODER, places)
    batch = batcher.batch(Chunk([0, 1, 2], [NOW] * 3, values, [None, many, None]))
    assert batch.events["event_id"].to_list() == ["c"]
    assert "too large to be handed over" in str(batch.refused[0])
    assert set(batch.moves) == {1}
    assert batch.moves[1].headers == [origin(f"{TOPIC_ID}/0", 1)]


def test_what_was_handed_over_once_is_not_handed_over_again() -> None:
    """As where another process puts listeners elsewhere: it would go to and fro for ever."""
    batch = moved([4], [event("a")], [from_other(1, 7)])
    assert not batch.moves
    assert "handed over to this one" in str(batch.refused[0])
    assert moved([4], [event("a")], [from_other(1, 7, "another")]).moves


def test_forged_origins_leave_no_marks() -> None:
    batcher = PartitionBatcher(1, 0, 1, DECODER, SOURCE)
    names = ["2", "00", "-1", "x", "", "1/1", "\u0661"]
    for place, name in enumerate(names):
        headers: Headers = [("podstream.origin", f"{TOPIC_ID}/{name}:5".encode())]
        assert batcher.batch(Chunk([place], [NOW], [event(str(place))], [headers])).events.height
    assert not batcher.tally.marks


def from_other(partition: int, offset: int, topic: str = TOPIC_ID) -> Headers:
    return [("trace", b"1"), origin(f"{topic}/{partition}", offset)]


def test_a_hand_over_counts_once_however_often_it_is_sent_and_whatever_the_window() -> None:
    batcher = PartitionBatcher(1, 0, 1, DECODER, SOURCE)
    sent = [("a", 0, 4), ("b", 0, 6), ("c", 2, 5), ("a", 0, 4), ("d", 0, 7), ("b", 0, 6)]
    offsets = list(range(0, 60, 10))
    values = [event(event_id) for event_id, _, _ in sent]
    headers = [from_other(partition, offset) for _, partition, offset in sent]
    batches = [
        batcher.batch(Chunk([at], [NOW], [value], [header]))
        for at, value, header in zip(offsets, values, headers, strict=True)
    ]
    kept = ["a", "b", "c", "d"]
    assert [one for batch in batches for one in batch.events["event_id"]] == kept
    # A process that has only the last batch to know it of.
    tally = tally_of(list(batches[3].headers().items()))
    again = PartitionBatcher(1, 31, 1, DECODER, SOURCE, tally)
    rest = again.batch(Chunk(offsets[4:], [NOW] * 2, values[4:], headers[4:]))
    assert rest.events["event_id"].to_list() == ["d"]
    assert again.tally == batcher.tally


def test_what_was_handed_over_in_another_topic_is_an_event_like_any_other() -> None:
    batcher = PartitionBatcher(1, 0, 1, DECODER, SOURCE)
    headers = [from_other(0, 10**9, "another"), from_other(0, 5), from_other(0, 5)]
    values = [event("copied"), event("a"), event("a")]
    batch = batcher.batch(Chunk([0, 10, 20], [NOW] * 3, values, headers))
    assert batch.events["event_id"].to_list() == ["copied", "a"]


def test_an_import_sent_again_is_recognised_wherever_its_listeners_belong() -> None:
    batcher = PartitionBatcher(0, 0, 1, DECODER, SOURCE)
    rows = [("a", "bob", 1), ("b", "ada", 2), ("c", "bob", 9)]

    def send(start: int) -> Batch:
        sender = import_sender(SOURCE.topic_id, "f")
        headers: list[Headers] = [[origin(sender, number)] for _, _, number in rows]
        values = [event(event_id, user_id=user_id) for event_id, user_id, _ in rows]
        return batcher.batch(Chunk(range(start, start + 3), [NOW] * 3, values, headers))

    first, second = send(0), send(100)
    assert first.events["event_id"].to_list() == ["a", "c"]
    assert list(first.moves) == [1]
    assert not second.events.height
    assert not second.moves
    assert (first.repeats, second.repeats) == (0, 3)


def test_an_import_into_a_topic_that_was_made_anew_is_none_that_came_before() -> None:
    """Its batches lie in another topic, and tell of what was imported into the one before."""

    def send(batcher: PartitionBatcher, source: Source, start: int) -> Batch:
        sender = import_sender(source.topic_id, "f")
        headers: list[Headers] = [[origin(sender, number)] for number in (1, 2)]
        values = [event(f"{start}"), event(f"{start + 1}")]
        return batcher.batch(Chunk(range(start, start + 2), [NOW] * 2, values, headers))

    deleted = Source("deleted", SOURCE.partitions, SOURCE.max_bytes)
    before = PartitionBatcher(1, 0, 1, DECODER, deleted)
    told = [send(before, deleted, start) for start in (0, 10)]
    assert [batch.events.height for batch in told] == [2, 0]
    tally = tally_of(list(told[-1].headers().items()))
    anew = PartitionBatcher(1, 0, 1, DECODER, SOURCE, tally)
    assert [send(anew, SOURCE, start).events.height for start in (20, 30)] == [2, 0]


@pytest.mark.parametrize("value", [b"", b"x", b"the/topic/0:", b"the/topic/0:-1", b":5", b"\xff:1"])
def test_an_origin_that_tells_nothing_is_passed_over(value: bytes) -> None:
    batcher = PartitionBatcher(1, 0, 1, DECODER, SOURCE)
    headers: list[Headers] = [[("podstream.origin", value)]] * 2
    batch = batcher.batch(Chunk([0, 10], [NOW] * 2, [event("a"), event("b")], headers))
    assert batch.events.height == 2
    assert batch.tally == b""
