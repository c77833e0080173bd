"""Framed Avro records: what goes in comes out, and garbage is refused with a sentence."""

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import BadRecordError, RecordCodec, UnknownSchemaError, frame, unframe
from schemas.registry import FixedRegistry
from topology.graph import build_graph, declared_subjects

GRAPH = build_graph(4)
CODEC = RecordCodec("user-events", "user_event", FixedRegistry(declared_subjects(GRAPH)))

EVENTS = st.fixed_dictionaries(
    {
        "event_id": st.text(min_size=1),
        "user_id": st.text(min_size=1),
        "episode_id": st.text(min_size=1),
        "kind": st.sampled_from(["impression", "play", "complete", "dislike"]),
        "occurred_at": st.integers(0, 4_000_000_000_000).map(
            lambda ms: datetime.fromtimestamp(ms / 1000, UTC).replace(microsecond=ms % 1000 * 1000)
        ),
        "heard_ms": st.integers(0, 2**40),
        "position_ms": st.integers(0, 2**40),
        "session_id": st.none() | st.text(),
        "surface": st.none() | st.text(),
        "rank": st.none() | st.integers(1, 500),
        "arm": st.none() | st.text(),
        "user_agent": st.none() | st.text(),
        "generation": st.none() | st.text(),
        "duration_ms": st.none() | st.integers(0, 2**40),
    }
)


@given(EVENTS)
def test_a_record_survives_the_wire(event: Any) -> None:
    assert CODEC.decode(CODEC.encode(event)) == event


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_never_raises_anything_else(value: Any) -> None:
    with contextlib.suppress(BadRecordError):
        CODEC.decode(value)


def test_the_frame_is_confluents() -> None:
    assert frame(258, b"payload") == b"\x00\x00\x00\x01\x02payload"
    assert unframe(b"\x00\x00\x00\x01\x02payload") == (258, b"payload")


@pytest.mark.parametrize("value", [None, b"", b"\x00\x00", b"\x01\x00\x00\x00\x01rest"])
def test_what_is_no_frame_is_refused(value: Any) -> None:
    with pytest.raises(BadRecordError):
        unframe(value)


def test_an_id_that_nobody_registered_is_named() -> None:
    with pytest.raises(UnknownSchemaError, match="schema id 9999"):
        CODEC.decode(frame(9999, b""))


def test_bytes_after_the_record_are_refused() -> None:
    event = {"event_id": "1", "user_id": "u", "episode_id": "e", "kind": "play"}
    value = CODEC.encode({**event, "occurred_at": datetime(2026, 1, 1, tzinfo=UTC)})
    with pytest.raises(BadRecordError, match="3 bytes left"):
        CODEC.decode(value + b"abc")


def test_a_record_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BadRecordError, match="does not fit"):
        CODEC.encode({"event_id": "1", "kind": "no such kind"})
