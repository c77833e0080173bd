from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.letters import (
    REDRIVEN,
    Letter,
    distinct,
    headers_to_send,
    letter_of,
    replaced,
    waiting,
    with_letters,
)
from streams.kafka.message import Message
from streams.kafka.sizes import VALUE_BYTES
from streams.kafka.wire import dead_letter_headers, error_headers

LIMIT = 1_048_588


def dead(source_offset: int, offset: int, reason: str = "bad", **headers: bytes) -> Message:
    errors = error_headers("user-events", 1, source_offset, "s", ValueError(reason))
    kept = dead_letter_headers(list(headers.items()), errors)
    return Message("user-events.dlq", 0, offset, b"u1", b"\x00\xff", headers=tuple(kept))


def plain(offset: int, *headers: tuple[str, bytes | None]) -> Message:
    return Message("user-events.dlq", 0, offset, None, b"x", headers=headers)  # type: ignore[arg-type]


def test_a_letter_says_where_it_was_and_why_it_died() -> None:
    assert letter_of(dead(5, 9, "no frame")) == Letter(
        offsets=(9,),
        key=b"u1",
        size=2,
        source=(1, 5),
        error={
            "topic": "user-events",
            "partition": "1",
            "offset": "5",
            "stage": "s",
            "class.name": "ValueError",
            "exception.message": "no frame",
        },
    )


def test_headers_that_no_stage_wrote_give_no_source() -> None:
    of_another_topic = replace(dead(5, 0), topic="feeds.dlq")
    assert letter_of(of_another_topic).source is None
    for partition in (b"x", b"-1", b"", None, "²".encode()):
        odd = plain(
            0,
            ("__connect.errors.topic", b"user-events"),
            ("__connect.errors.partition", partition),
            ("__connect.errors.offset", b"7"),
        )
        assert letter_of(odd).source is None


def test_a_letter_sent_again_counts_once_with_its_newest_reason() -> None:
    letters = map(letter_of, [dead(5, 0, "first"), dead(6, 1), dead(5, 2, "second")])
    kept = distinct(letters)
    assert [letter.offsets for letter in kept] == [(1,), (0, 2)]
    assert kept[-1].reason == "second"


def test_letters_without_headers_are_told_apart_by_their_own_place() -> None:
    kept = distinct(letter_of(plain(offset)) for offset in range(3))
    assert [letter.offsets for letter in kept] == [(0,), (1,), (2,)]


def test_what_is_sent_has_its_own_headers_and_a_count_that_grows() -> None:
    message = plain(0, ("a", b"1"), ("a", None), *dead(5, 0).headers)
    once = headers_to_send(message, LIMIT)
    assert once == [("a", b"1"), ("a", None), (REDRIVEN, b"1")]
    again = plain(1, *once, *dead(6, 0).headers)
    assert letter_of(again).redrives == 1
    assert headers_to_send(again, LIMIT) == [("a", b"1"), ("a", None), (REDRIVEN, b"2")]


def test_what_is_sent_back_is_not_known_as_what_came_before() -> None:
    """The stage has noted the number of the record that died: by it this would be a repeat."""
    message = plain(0, ("podstream.origin", b"import/f:7"), ("a", b"1"), *dead(5, 0).headers)
    assert headers_to_send(message, LIMIT) == [("a", b"1"), (REDRIVEN, b"1")]


def test_a_count_that_is_no_number_starts_anew() -> None:
    for odd in (b"", b"many", b"\xff", b"-3", None):
        assert headers_to_send(plain(0, (REDRIVEN, odd)), LIMIT) == [(REDRIVEN, b"1")]
    assert letter_of(plain(0, (REDRIVEN, b"9" * 5000))).redrives == 999_999_999


def test_a_record_that_only_just_fits_goes_without_the_count() -> None:
    large = replace(dead(5, 0, trace=b"t"), value=bytes(LIMIT - 100))
    assert headers_to_send(large, LIMIT) == [("trace", b"t")]
    assert REDRIVEN in dict(headers_to_send(replace(large, value=bytes(LIMIT - 300)), LIMIT))


def test_a_late_copy_of_what_was_sent_back_does_not_wait() -> None:
    letters = distinct(map(letter_of, [dead(5, 0), dead(6, 1), dead(5, 2), dead(7, 3)]))
    assert [one.offsets for one in waiting(letters, [(0, 0)])] == [(1,), (3,)]
    assert waiting(letters, [(0, 3)]) == []
    assert [one.offsets for one in waiting(letters, [])] == [(0, 2), (1,), (3,)]


def test_what_is_not_whole_is_never_sent_back() -> None:
    large = dead(5, 0, "large")
    cut = replace(large, headers=(*large.headers, (VALUE_BYTES, b"9000")))
    assert waiting([letter_of(cut), letter_of(dead(6, 1))], []) == [letter_of(dead(6, 1))]


def test_only_the_newest_record_of_a_key_is_not_replaced() -> None:
    def letter(offset: int, key: bytes, source: tuple[int, int] | None) -> Letter:
        return Letter((offset,), key, source=source)

    letters = [
        letter(0, b"old", (0, 3)),
        letter(1, b"newest", (0, 4)),
        letter(2, b"compacted", (1, 4)),
        letter(3, b"of-nowhere", None),
    ]
    newest: dict[tuple[int, bytes | None], int] = {(0, b"old"): 9, (0, b"newest"): 4}
    assert [one.key for one in replaced(letters, newest)] == [b"old", b"compacted"]


@given(st.lists(st.sets(st.integers(0, 30))))
def test_ranges_hold_what_is_done_and_nothing_else(batches: list[set[int]]) -> None:
    letters = [Letter((offset,)) for offset in range(31)]
    done: list[tuple[int, int]] = []
    for batch in batches:
        done = with_letters(done, (Letter((offset,)) for offset in batch))
    settled = set().union(*batches)
    assert [one.offsets[0] for one in waiting(letters, done)] == sorted(set(range(31)) - settled)
    assert all(b[0] > a[1] + 1 for a, b in pairwise(done))
