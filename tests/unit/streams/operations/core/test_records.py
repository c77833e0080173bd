from datetime import UTC, date, datetime
from typing import Any

import pytest

from schemas import files
from schemas.codec import RecordCodec
from schemas.registry import FixedRegistry
from streams.operations.core.imports import RowError
from streams.operations.core.records import key_of, record_of
from topology.graph import build_graph, declared_subjects

EVENT = {
    "event_id": "e",
    "user_id": "u",
    "episode_id": "x:1",
    "kind": "play",
    "occurred_at": "2026-01-31T12:00:00Z",
}
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def event(**change: Any) -> dict[str, Any]:
    found: dict[str, Any] = record_of({**EVENT, **change}, files.load("user_event"))
    return found


def test_an_event_is_read_with_its_defaults_and_survives_the_wire() -> None:
    codec = RecordCodec(
        "user-events", "user_event", FixedRegistry(declared_subjects(build_graph(1)))
    )
    read = codec.decode(codec.encode(event()))
    assert (read["occurred_at"], read["heard_ms"], read["rank"]) == (AT, 0, None)


def test_times_may_be_milliseconds() -> None:
    assert event(occurred_at=5)["occurred_at"] == 5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "listen"}, "kind: 'listen' is none of impression"),
        ({"occurred_at": "noon"}, "occurred_at: 'noon' is no ISO 8601 time"),
        ({"heard_ms": "5"}, "heard_ms: '5' is no long"),
        ({"heard_ms": 2**63}, "is no long"),
        ({"rank": 2**31}, "rank: 2147483648 is no int"),
        ({"rank": True}, "rank: True is no int"),
        ({"user_id": None}, "user_id: None is no string"),
        ({"colour": 1}, "colour is no field of user_event"),
    ],
)
def test_what_does_not_fit_says_where_and_why(change: Any, reason: Any) -> None:
    with pytest.raises(RowError, match=reason):
        event(**change)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(RowError, match="user_id missing"):
        record_of({}, {"type": "record", "name": "r", "fields": [{"name": "user_id"}]})


def test_paths_lead_into_nested_records() -> None:
    record = {"scope": "all", "source_partition": 0, "at": 0, "episodes": [{"episode_id": 1}]}
    with pytest.raises(RowError, match=r"episodes\[0\].episode_id: 1 is no string"):
        record_of(record, files.load("trending"))


def test_dates_and_bytes() -> None:
    assert record_of("2026-01-31", {"type": "int", "logicalType": "date"}) == date(2026, 1, 31)
    assert record_of("AAE=", "bytes") == b"\x00\x01"
    with pytest.raises(RowError, match="no base64"):
        record_of("?", "bytes", "vector")


SHAPES = {
    "type": "record",
    "name": "shapes",
    "fields": [
        {"name": "score", "type": "double", "default": 0.0},
        {"name": "parts", "type": {"type": "map", "values": "float"}, "default": {}},
        {"name": "either", "type": ["null", "long", "string"], "default": None},
        {"name": "sure", "type": "boolean", "default": False},
    ],
}


@pytest.mark.parametrize(
    "fields",
    [
        {"score": 1},
        {"score": 1.5, "parts": {"als": 0.25, "trending": 1}},
        {"either": 5},
        {"either": "five"},
        {"either": None, "sure": True},
    ],
)
def test_a_value_is_taken_as_any_type_that_it_fits(fields: dict[str, Any]) -> None:
    defaults = {"score": 0.0, "parts": {}, "either": None, "sure": False}
    assert record_of(fields, SHAPES) == defaults | fields


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"score": True}, "score: True is no double"),
        ({"parts": {"als": "x"}}, r"parts\.als: 'x' is no float"),
        ({"parts": [1]}, r"parts: \[1\] is no map"),
        ({"either": 1.5}, "either: 1.5 is no string"),
        ({"sure": 1}, "sure: 1 is no boolean"),
        (["score"], "the record is no JSON object"),
    ],
)
def test_a_value_that_fits_no_type_says_where(fields: Any, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        record_of(fields, SHAPES)


def test_every_avro_topic_has_a_schema_that_can_be_read() -> None:
    graph = build_graph(1)
    for name in set(declared_subjects(graph).values()):
        with pytest.raises(RowError, match="missing"):
            record_of({}, files.load(name))


def test_keys_are_made_of_fields() -> None:
    assert key_of({"model": "als", "generation": "g", "metric": "auc"}, ("model", "metric")) == (
        "als|auc"
    )


def test_values_that_would_make_anothers_key_are_refused() -> None:
    assert key_of({"episode_id": "a|b"}, ("episode_id",)) == "a|b"
    for record in ({"model": "a|b", "metric": "c"}, {"model": "a", "metric": "b|c"}):
        with pytest.raises(RowError, match="stands between the fields"):
            key_of(record, ("model", "metric"))
