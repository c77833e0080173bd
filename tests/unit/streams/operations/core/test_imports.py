from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import RecordCodec
from schemas.registry import FixedRegistry
from streams.operations.core import imports
from streams.operations.core.imports import RowError, Rows
from topology.graph import build_graph, declared_subjects

NOW_MS = imports.milliseconds(datetime(2026, 6, 1, tzinfo=UTC))
EVENT = {
    "user_id": "u",
    "episode_id": "pi:1",
    "kind": "play",
    "occurred_at": "2026-01-31T12:00:00.250Z",
}


def codec(topic: str, schema: str) -> RecordCodec:
    return RecordCodec(topic, schema, FixedRegistry(declared_subjects(build_graph(1))))


def parse(*rows: dict[str, Any]) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    lines = list(range(2, len(rows) + 2))
    return imports.parse_events(Rows(lines, list(rows)), NOW_MS)


def test_a_minimal_row_is_an_event_with_a_derived_id() -> None:
    (event,), refused = parse(EVENT)
    assert refused == []
    assert (event["heard_ms"], event["position_ms"], event["rank"]) == (0, 0, None)
    assert len(event["event_id"]) == 64
    codec("user-events", "user_event").encode(event)


def test_what_is_not_a_number_is_no_value() -> None:
    none = float("nan")
    (event, same), refused = parse({**EVENT, "position_ms": none, "rank": none}, EVENT)
    assert (event, refused) == (same, [])
    episode, _ = imports.parse_episode({"episode_id": "e", "title": "T", "show_id": none})
    assert episode["show_id"] == "import:episode:e"


def test_the_derived_id_says_the_same_of_equal_rows_only() -> None:
    (one, same, other), _ = parse(EVENT, {**EVENT, "heard_ms": "0"}, {**EVENT, "heard_ms": "1"})
    assert one["event_id"] == same["event_id"] != other["event_id"]


def test_the_length_of_the_episode_is_taken_over_and_changes_no_derived_id() -> None:
    (plain, told), _ = parse(EVENT, {**EVENT, "duration_ms": "1800000"})
    assert (plain["duration_ms"], told["duration_ms"]) == (None, 1_800_000)
    # a file that was imported before events could tell it must not count again
    of_old = "7174276072c2447fc79f973d03f1153168d98c5145164570da6ad567d6daf7a6"
    assert plain["event_id"] == told["event_id"] == of_old


def test_a_given_id_is_kept() -> None:
    (event,), _ = parse({**EVENT, "event_id": "mine"})
    assert event["event_id"] == "mine"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"user_id": ""}, "user_id missing"),
        ({"user_id": None, "kind": " "}, "user_id and kind missing"),
        ({"kind": "listen"}, "kind: 'listen' is none of"),
        ({"occurred_at": "yesterday"}, "occurred_at: 'yesterday' is no ISO 8601 time"),
        ({"occurred_at": "2026-06-05"}, "more than a day after"),
        ({"occurred_at": "1950-01-01"}, "before 1990"),
        ({"heard_ms": "1.5"}, "heard_ms: 1.5 is no whole number"),
        ({"heard_ms": "-1"}, "heard_ms is not between"),
        ({"heard_ms": str(2**70)}, "heard_ms is out of range"),
        ({"position_ms": "nan"}, "position_ms: nan is no whole number"),
        ({"rank": "0"}, "rank is not between"),
        ({"rank": True}, "rank: True is no whole number"),
        ({"session_id": {"a": 1}}, "session_id: {'a': 1} is no text"),
        ({"surface": "\udcff"}, "no valid UTF-8"),
        ({"user_id": "x" * 2000}, "user_id"),
    ],
)
def test_a_bad_row_is_refused_by_its_line_with_the_reason(change: Any, reason: Any) -> None:
    events, refused = parse(EVENT, {**EVENT, **change}, {**EVENT, "heard_ms": "5"})
    assert len(events) == 2
    ((line, said),) = refused
    assert line == 3
    assert reason in said


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        (date(2026, 1, 31), datetime(2026, 1, 31, tzinfo=UTC)),
        (datetime.fromisoformat("2026-01-31T12:00"), datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00:00 UTC", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00:00.250 GMT", datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC)),
        ("2026-01-31 12:00:00 +0000 UTC", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 14:00:00 +0200", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("Sat, 31 Jan 2026 12:00:00 GMT", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-W05-6", datetime(2026, 1, 31, tzinfo=UTC)),
        ("20260131", datetime(2026, 1, 31, tzinfo=UTC)),
        (20260131, datetime(2026, 1, 31, tzinfo=UTC)),
        ("1769860800", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (1769860800, datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("1769860800.250", datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC)),
        (1769860800.25, datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC)),
        ("1.7698608E9", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (1769860800250, datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC)),
        ("1706122400000", datetime(2024, 1, 24, 18, 53, 20, tzinfo=UTC)),
        (1769860800250000000, datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC)),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(value: Any, expected: Any) -> None:
    assert imports.parse_time(value) == expected


@pytest.mark.parametrize(
    "value",
    ["01/02/2026", "10:00", "12", 12, "170410320", True, float("nan"), "9" * 30],
)
def test_times_with_more_than_one_meaning_are_refused(value: Any) -> None:
    with pytest.raises(RowError, match="is no ISO 8601 time, nor any other"):
        imports.parse_time(value)


@given(
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])),
)
def test_milliseconds_are_exact(moment: Any) -> None:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert imports.milliseconds(moment) == since // timedelta(milliseconds=1)


@pytest.mark.parametrize(("value", "expected"), [("7", 7), (7.0, 7), ("7.0", 7), ("-3", -3)])
def test_whole_numbers(value: Any, expected: Any) -> None:
    assert imports.parse_integer(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        ("", []),
        ("News", ["News"]),
        ("Arts|Books, Comics", ["Arts", "Books, Comics"]),
        ("Arts; Books", ["Arts", "Books"]),
        ('["Arts", "Arts", "Books"]', ["Arts", "Books"]),
        (["Arts"], ["Arts"]),
    ],
)
def test_categories(value: Any, expected: Any) -> None:
    assert imports.parse_categories(value) == expected


def test_an_episode_brings_its_transcript() -> None:
    episode, transcript = imports.parse_episode(
        {
            "episode_id": "x:1",
            "title": "T",
            "show_title": "S",
            "categories": "A|B",
            "published_at": "2026-01-31",
            "duration_s": "60",
            "explicit": "true",
            "language": "en",
            "transcript_text": "words",
        }
    )
    assert (episode["show_id"], episode["categories"]) == ("import:S", ["A", "B"])
    assert (episode["explicit"], episode["duration_s"], episode["source"]) == (True, 60, "import")
    assert transcript is not None
    assert (transcript["status"], transcript["format"]) == ("ok", "text")
    codec("episode-metadata", "episode").encode(episode)
    codec("episode-transcripts", "transcript").encode(transcript)


def test_a_minimal_episode_has_no_transcript() -> None:
    episode, transcript = imports.parse_episode({"episode_id": "x:1", "title": "T"})
    assert transcript is None
    assert episode["show_id"] == "import:episode:x:1"


SHOWS = st.tuples(st.booleans(), st.lists(st.sampled_from(["episode:", "show:", "a"])).map("".join))


def show_id_of(titled: bool, name: str) -> str:
    row = {"title": "T", "episode_id": name or "e", "show_title": name if titled else ""}
    return str(imports.parse_episode(row)[0]["show_id"])


@given(SHOWS.filter(lambda show: show[1]), SHOWS.filter(lambda show: show[1]))
def test_no_two_shows_have_one_id(one: tuple[bool, str], other: tuple[bool, str]) -> None:
    """Whether they are known by their title, or by their only episode."""
    assert (show_id_of(*one) == show_id_of(*other)) == (one == other)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"title": ""}, "title missing"),
        ({"episode_id": "x\n1"}, "episode_id: 'x.*1' has control characters"),
        ({"show_id": "x\x7f"}, "show_id: .* has control characters"),
        ({"episode_id": "é" * 513}, "episode_id: .* has over 1024 bytes"),
        ({"episode_id": b"x"}, "episode_id: b'x' is no text"),
        ({"duration_s": "long"}, "duration_s: 'long' is no whole number"),
        ({"duration_s": -1}, "duration_s: -1 is no number of seconds"),
        ({"explicit": "perhaps"}, "explicit: 'perhaps' is neither"),
        ({"categories": 3}, "categories: 3 is no list"),
        ({"published_at": "soon"}, "published_at: 'soon' is no ISO 8601 time"),
    ],
)
def test_a_bad_episode_says_why(change: Any, reason: Any) -> None:
    with pytest.raises(RowError, match=reason):
        imports.parse_episode({"episode_id": "x:1", "title": "T", **change})
