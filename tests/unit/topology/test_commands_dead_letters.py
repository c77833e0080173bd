from __future__ import annotations

from streams.context import Message
from streams.wire import dead_letter_headers, error_headers
from topology.commands.dead_letters import PREVIEW_BYTES, describe, distinct, error_of, preview


def letter(source_offset: int, offset: int, reason: str = "bad", stage: str = "s") -> Message:
    errors = error_headers("user-events", 1, source_offset, stage, ValueError(reason))
    headers = dead_letter_headers([("trace", b"\x01\xff")], errors)
    return Message("user-events.dlq", 0, offset, b"u1", b"\x00\xff", headers=tuple(headers))


def test_a_letter_sent_again_counts_once_with_its_newest_reason() -> None:
    letters = [letter(5, 0, "first"), letter(6, 1), letter(5, 2, "second")]
    kept = distinct(letters)
    assert [message.offset for message in kept] == [1, 2]
    assert error_of(kept[-1])["exception.message"] == "second"


def test_letters_without_headers_are_told_apart_by_their_own_place() -> None:
    plain = [Message("user-events.dlq", 0, offset, None, b"x") for offset in range(3)]
    assert distinct(plain) == plain


def test_description_says_where_from_and_why() -> None:
    shown = describe(letter(5, 0, "no frame", "batch_events"))
    assert shown["error"] == {
        "topic": "user-events",
        "partition": "1",
        "offset": "5",
        "stage": "batch_events",
        "class.name": "ValueError",
        "exception.message": "no frame",
    }
    assert shown["at"] == "user-events.dlq[0]@0"
    assert (shown["key"], shown["value"], shown["bytes"]) == ("u1", "0x00ff", 2)
    assert shown["headers"] == {"trace": "0x01ff"}


def test_preview_shows_text_as_text_and_the_rest_as_hex() -> None:
    assert preview(None) is None
    assert preview(b"") == ""
    assert preview("für Ü".encode()) == "für Ü"
    assert preview(b"\x00\x00") == "0x0000"
    assert preview(b"\xff\xfe") == "0xfffe"
    assert preview(b"\x1b[31mred") == "0x" + b"\x1b[31mred".hex()  # no escape reaches a terminal


def test_preview_is_cut_also_within_a_character() -> None:
    long = ("a" * (PREVIEW_BYTES - 1) + "ü" * 10).encode()
    assert preview(long) == "a" * (PREVIEW_BYTES - 1) + "…"
    assert preview(b"\xff" * 500) == "0x" + "ff" * PREVIEW_BYTES + "…"
