from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from streams.cli.commands.dead_letters import (
    PREVIEW_BYTES,
    describe,
    letters_table,
    preview,
    sentence,
    summary,
)
from streams.kafka.letters import Letter, letter_of
from streams.kafka.message import Message
from streams.kafka.wire import dead_letter_headers, error_headers


def letter(source_offset: int, offset: int, reason: str = "bad", stage: str = "s") -> Message:
    errors = error_headers("user-events", 1, source_offset, stage, ValueError(reason))
    headers = dead_letter_headers([("trace", b"\x01\xff")], errors)
    return Message("user-events.dlq", 0, offset, b"u1", b"\x00\xff", headers=tuple(headers))


def test_a_line_of_the_list_tells_what_waits() -> None:
    letters = [
        replace(letter_of(letter(5 + n, n, f"reason {n}")), redrives=n % 2) for n in range(3)
    ]
    assert summary("user-events.dlq", letters, [(0, 0)], redrivable=True) == {
        "topic": "user-events.dlq",
        "count": 3,
        "waiting": 2,
        "redriven": 1,
        "died_again": 1,
        "newest_reason": "reason 2",
    }
    nothing = summary("late-events.dlq", [], [], redrivable=False)
    assert (nothing["count"], nothing["waiting"], nothing["newest_reason"]) == (0, None, None)


def test_topics_are_whole_on_a_narrow_terminal() -> None:
    reason = "https://media.some-very-long-publisher-name.example.com:8443/[bold]feed \x1b[31mred"
    letters = [replace(letter(5, 0, reason), topic="episode-transcripts.dlq")] * 12_345
    row = summary("episode-transcripts.dlq", list(map(letter_of, letters)), [], redrivable=True)
    console = Console(width=80, record=True, force_terminal=False)
    console.print(letters_table([row]))
    shown = console.export_text()
    lines = [line.split("│")[1:-1] for line in shown.splitlines() if line.startswith("│")]
    assert [cell.strip() for cell in lines[0][:4]] == [
        "episode-transcripts.dlq",
        "12,345",
        "12,345",
        "0",
    ]
    told = "".join(line[4].strip() for line in lines).replace(" ", "")
    assert told == reason.replace("\x1b", "\ufffd").replace(" ", "")


def test_a_letter_in_a_sentence_is_one_line_without_escapes() -> None:
    one = letter_of(letter(5, 7, "\x1b[31mred\nsecond line"))
    assert sentence(one, "user-events.dlq") == (
        "user-events.dlq@7 from [1]@5, key u1, 2 bytes: \ufffd[31mred\ufffdsecond line"
    )
    assert sentence(Letter((3,), redrives=2), "feeds.dlq") == (
        "feeds.dlq@3, key None, 0 bytes, redriven 2 times before: no reason given"
    )


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
