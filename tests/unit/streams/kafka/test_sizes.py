from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.letters import letter_of
from streams.kafka.message import Message
from streams.kafka.sizes import (
    KEPT_BYTES,
    LARGEST_RECORD_BYTES,
    letter,
    record_bytes,
    takes,
    too_large,
)
from streams.kafka.wire import ERROR_PREFIX, error_headers
from topology.graph import dead_letter_topic
from topology.model import RawTopic

TOPIC = RawTopic("things", "of a test", "none")
DEAD = dead_letter_topic(TOPIC)
MOST = TOPIC.max_message_bytes
NOISE = Random(1).randbytes(2 * MOST)
HEADERS = error_headers(TOPIC.name, 0, 7, "a_stage", ValueError("bad"))


def test_what_compression_brings_within_the_limit_is_taken() -> None:
    assert takes(TOPIC, b"k", bytes(20 * MOST))
    assert not takes(TOPIC, b"k", NOISE)
    assert takes(TOPIC, b"k", NOISE[: MOST - 1000])
    assert not takes(TOPIC, b"k", bytes(LARGEST_RECORD_BYTES))
    assert not takes(TOPIC, NOISE, None)


def test_the_error_says_both_sizes() -> None:
    size = f"{record_bytes(b'k', NOISE):,}"
    assert str(too_large(TOPIC, b"k", NOISE)) == (
        f"a record of {size} bytes, where things takes 1,048,588"
    )


def test_a_letter_is_whole_where_it_can_be() -> None:
    assert letter(DEAD, b"k", b"v", HEADERS) == (b"k", b"v", HEADERS)


@given(
    key=st.sampled_from([None, b"k", NOISE]),
    value=st.sampled_from([None, b"v", NOISE, bytes(LARGEST_RECORD_BYTES)]),
    trace=st.sampled_from([b"t", NOISE]),
)
def test_every_letter_fits_and_says_why_and_whether_it_is_whole(
    key: bytes | None, value: bytes | None, trace: bytes
) -> None:
    made = letter(DEAD, key, value, [("trace", trace), *HEADERS])
    assert takes(DEAD, *made)
    read = letter_of(Message(DEAD.name, 0, 1, made.key, made.value, headers=tuple(made.headers)))
    assert (read.source, read.reason) == ((0, 7), "bad")
    whole = (made.key, made.value, dict(made.headers).get("trace")) == (key, value, trace)
    assert read.is_whole is whole
    if not whole:
        assert made.value == (value or b"")[:KEPT_BYTES]
        assert read.error["value.bytes"] == str(len(value or b""))


def test_an_error_without_a_place_says_none() -> None:
    names = [
        n.removeprefix(ERROR_PREFIX) for n, _ in error_headers("t", None, None, "s", OSError())
    ]
    assert names == ["topic", "stage", "class.name", "exception.message"]
