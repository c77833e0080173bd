"""Decoding in bulk means the same as decoding one by one, whatever the bytes are."""

from __future__ import annotations

import copy
from io import BytesIO
from typing import Any

import fastavro
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.interchange import CompatLevel

from schemas import columnar, files
from schemas.codec import BadRecordError, RecordCodec, UnknownSchemaError, frame
from schemas.registry import FixedRegistry
from schemas.units import DAY_MS
from streams.events.core import events
from streams.events.core.event_rows import KINDS
from streams.events.core.events import BlockDecoder, BlockError, EventDecoder, check_events
from topology.graph import build_graph, declared_subjects

TOPIC = "user-events"
REGISTRY = FixedRegistry(declared_subjects(build_graph(2)))
SCHEMA = files.parsed("user_event")
SCHEMA_ID = REGISTRY.id_of(f"{TOPIC}-value")
CODEC = RecordCodec(TOPIC, "user_event", REGISTRY)
NOW = 1_767_225_600_000
CALENDAR_MS = range(-62_135_596_800_000, 253_402_300_800_000)
"""The years 1 to 9999, in milliseconds since 1970: what a Python datetime holds."""
EDGES_MS = (CALENDAR_MS.start - 1, CALENDAR_MS.start, -1, CALENDAR_MS.stop - 1, CALENDAR_MS.stop)

PLAY: dict[str, Any] = {
    "event_id": "e1",
    "user_id": "ada",
    "episode_id": "pi:1",
    "kind": "play",
    "occurred_at": NOW,
    "heard_ms": 0,
    "position_ms": 0,
    "session_id": None,
    "surface": "home",
    "rank": 3,
    "arm": None,
    "user_agent": None,
    "generation": None,
}


def written(record: dict[str, Any], schema: Any = SCHEMA) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, schema, record)
    return buffer.getvalue()


def framed(**changes: Any) -> bytes:
    return frame(SCHEMA_ID, written({**PLAY, **changes}))


texts = st.one_of(st.none(), st.text(max_size=80))
records: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    event_id=st.text(max_size=200),
    user_id=st.text(max_size=5),
    episode_id=st.text(max_size=5),
    kind=st.sampled_from(SCHEMA["fields"][3]["type"]["symbols"]),
    occurred_at=st.integers(0, NOW * 2),
    heard_ms=st.integers(-(2**63), 2**63 - 1),
    position_ms=st.integers(-(2**63), 2**63 - 1),
    session_id=texts,
    surface=texts,
    rank=st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
    arm=texts,
    user_agent=texts,
    generation=texts,
    duration_ms=st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
)
payloads = st.builds(written, records)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A payload with bytes changed, cut off, added, or moved in from another one."""
    payload = bytearray(draw(payloads))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(payload)))
        match draw(st.sampled_from(["change", "cut", "add"])):
            case "change":
                payload[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del payload[place : place + draw(st.integers(1, 4))]
            case "add":
                payload[place:place] = draw(st.binary(max_size=4))
    return bytes(payload)


def one_by_one(values: list[bytes]) -> tuple[list[dict[str, Any]], set[int]]:
    good, bad = [], set()
    for number, value in enumerate(values):
        try:
            good.append(CODEC.decode(value))
        except BadRecordError:
            bad.add(number)
    for record in good:
        record["occurred_at"] = round(record["occurred_at"].timestamp() * 1000)
    return good, bad


@pytest.mark.no_cover  # it doubles the time, and chance is no test of a branch
@given(st.lists(payloads, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_block_decodes_like_its_records(group: list[bytes]) -> None:
    values = [frame(SCHEMA_ID, payload) for payload in group]
    assert BlockDecoder(SCHEMA).decode(values).to_dicts() == one_by_one(values)[0]


@pytest.mark.no_cover  # it doubles the time, and chance is no test of a branch
@given(st.lists(st.one_of(payloads, damaged(), st.binary(max_size=60)), min_size=1, max_size=6))
@example([written({**PLAY, "occurred_at": at}) for at in EDGES_MS])
@settings(max_examples=150, deadline=None)
def test_a_block_never_takes_what_its_records_refuse(group: list[bytes]) -> None:
    values = [frame(SCHEMA_ID, payload) for payload in group]
    good, bad = one_by_one(values)
    try:
        rows = BlockDecoder(SCHEMA).decode(values).to_dicts()
    except BlockError:
        return
    # A time beyond the calendar is a number to the block; the check of values refuses it.
    possible = [row for row in rows if row["occurred_at"] in CALENDAR_MS]
    assert possible == good
    assert len(bad) == len(rows) - len(possible)


def test_bytes_moved_between_messages_are_noticed() -> None:
    first, second = written(PLAY), written({**PLAY, "event_id": "e2"})
    values = [frame(SCHEMA_ID, first + second[:4]), frame(SCHEMA_ID, second[4:])]
    with pytest.raises(BlockError):
        BlockDecoder(SCHEMA).decode(values)


@pytest.mark.parametrize("smallest_block", [1, 1000])
def test_bad_messages_are_named_and_the_rest_decoded(
    monkeypatch: pytest.MonkeyPatch, smallest_block: int
) -> None:
    monkeypatch.setattr(events, "SMALLEST_BLOCK", smallest_block)
    values = [
        framed(event_id="e0"),
        None,
        b"no frame",
        framed(event_id="e3"),
        frame(999_999, written(PLAY)),
        frame(SCHEMA_ID, b"\xff\xff"),
        framed(event_id="e6") + b"!",
        framed(event_id="e7"),
    ]
    rows, bad = EventDecoder(TOPIC, REGISTRY).decode(values)
    assert rows["row"].to_list() == [0, 3, 7]
    assert rows["event_id"].to_list() == ["e0", "e3", "e7"]
    assert sorted(bad) == [1, 2, 4, 5, 6]
    assert isinstance(bad[4], UnknownSchemaError)
    assert "no value" in str(bad[1])
    assert "not a Confluent frame" in str(bad[2])


def test_nothing_decodes_to_no_rows() -> None:
    rows, bad = EventDecoder(TOPIC, REGISTRY).decode([b"x"])
    assert rows.height == 0
    assert set(bad) == {0}


class TwoVersions(FixedRegistry):
    """A registry that also knows another version of the event."""

    def __init__(self, other: Any) -> None:
        super().__init__(declared_subjects(build_graph(2)))
        self._schemas[77] = fastavro.parse_schema(other)


def test_an_older_version_is_read_with_our_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SMALLEST_BLOCK", 1)
    older = copy.deepcopy(files.load("user_event"))
    older["fields"] = [f for f in older["fields"] if f["name"] not in ("heard_ms", "arm")]
    older["fields"].append({"name": "extra", "type": "string"})
    older["fields"][3]["type"]["symbols"] = ["complete", "play", "impression"]
    registry = TwoVersions(older)
    value = frame(77, written({**PLAY, "kind": "complete", "extra": "x"}, older))
    rows, bad = EventDecoder(TOPIC, registry).decode([framed(), value])
    assert not bad
    assert rows["kind"].to_list() == ["play", "complete"]
    assert rows["heard_ms"].to_list() == [0, 0]
    assert BlockDecoder(older).decode([value]).to_dicts() == one_by_one_of(registry, value)


def test_both_versions_of_a_running_upgrade_decode_in_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def one_by_one(*_: object) -> None:
        raise AssertionError("these blocks should have been decoded")

    monkeypatch.setattr(EventDecoder, "_decode_each", one_by_one)
    first = files.parsed("user_event", 1)
    registry = TwoVersions(files.load("user_event", 1))
    old = [frame(77, written({**PLAY, "event_id": f"a{n}"}, first)) for n in range(150)]
    new = [framed(event_id=f"b{n}", duration_ms=n) for n in range(150)]
    rows, bad = EventDecoder(TOPIC, registry).decode(
        [value for pair in zip(old, new, strict=True) for value in pair]
    )
    assert not bad
    assert rows["row"].to_list() == list(range(300))
    assert rows["event_id"].to_list() == [f"{version}{n}" for n in range(150) for version in "ab"]
    assert rows["duration_ms"].to_list() == [d for n in range(150) for d in (None, n)]


def one_by_one_of(registry: FixedRegistry, value: bytes) -> list[dict[str, Any]]:
    record = RecordCodec(TOPIC, "user_event", registry).decode(value)
    return [{**record, "occurred_at": round(record["occurred_at"].timestamp() * 1000)}]


def test_a_schema_that_is_not_flat_is_read_record_by_record() -> None:
    other = copy.deepcopy(files.load("user_event"))
    other["fields"].append({"name": "tags", "type": {"type": "array", "items": "string"}})
    value = frame(77, written({**PLAY, "tags": ["a"]}, other))
    with pytest.raises(BlockError):
        BlockDecoder(other)
    rows, bad = EventDecoder(TOPIC, TwoVersions(other)).decode([value] * 200)
    assert rows.height == 200
    assert not bad


def without_a_required_field(fields: list[dict[str, Any]]) -> None:
    del fields[0]


def with_a_number_for_a_name(fields: list[dict[str, Any]]) -> None:
    fields[1]["type"] = "long"


def with_a_union_of_three(fields: list[dict[str, Any]]) -> None:
    fields.append({"name": "extra", "type": ["null", "string", "long"], "default": None})


def with_a_union_that_is_never_null(fields: list[dict[str, Any]]) -> None:
    fields.append({"name": "extra", "type": ["string", "long"], "default": ""})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_a_required_field, "has no event_id"),
        (with_a_number_for_a_name, "user_id has another type"),
        (with_a_union_of_three, "is not flat"),
        (with_a_union_that_is_never_null, "is not flat"),
    ],
)
def test_a_schema_that_a_block_cannot_be_read_by_says_why(change: Any, reason: str) -> None:
    other = copy.deepcopy(files.load("user_event"))
    change(other["fields"])
    with pytest.raises(BlockError, match=reason):
        BlockDecoder(other)


def test_a_kind_that_only_a_newer_writer_knows_is_no_kind() -> None:
    newer = copy.deepcopy(files.load("user_event"))
    newer["fields"][3]["type"]["symbols"].append("share")
    value = frame(77, written({**PLAY, "kind": "share"}, newer))
    with pytest.raises(BlockError, match="a kind that is not ours"):
        BlockDecoder(newer).decode([value])


def test_a_schema_without_unions_is_read_in_a_block() -> None:
    plain = copy.deepcopy(files.load("user_event"))
    plain["fields"] = [f for f in plain["fields"] if not isinstance(f["type"], list)]
    value = frame(77, written(PLAY, plain))
    (row,) = BlockDecoder(plain).decode([value, value]).unique().to_dicts()
    assert (row["event_id"], row["surface"], row["rank"]) == ("e1", None, None)


GOOD: list[dict[str, Any]] = [
    {},
    {"heard_ms": DAY_MS, "position_ms": DAY_MS},
    {"occurred_at": NOW + DAY_MS},
    {"occurred_at": events.EARLIEST_MS},
    {"surface": "é" * 512, "rank": 1},
    {"rank": None, "surface": None},
    {"user_id": "a b\u0080é\u2028|:/%", "surface": "a\tb\0"},
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"event_id": ""}, "event_id is empty"),
    ({"user_id": ""}, "user_id is empty"),
    ({"episode_id": ""}, "episode_id is empty"),
    ({"heard_ms": -1}, "heard_ms"),
    ({"heard_ms": DAY_MS + 1}, "heard_ms"),
    ({"position_ms": -1}, "position_ms"),
    ({"position_ms": 2**63 - 1}, "position_ms"),
    ({"occurred_at": NOW + DAY_MS + 1}, "after the record's log time"),
    ({"occurred_at": events.EARLIEST_MS - 1}, "before 1990"),
    ({"user_id": "é" * 513}, "user_id has over"),
    ({"user_id": "a\0"}, "user_id has control characters"),
    ({"episode_id": "a\nb"}, "episode_id has control characters"),
    ({"event_id": "\x7f"}, "event_id has control characters"),
    ({"generation": "x" * 1025}, "generation has over"),
    ({"rank": 0}, "rank"),
    ({"duration_ms": -1}, "duration_ms"),
]


def test_possible_values_pass() -> None:
    rows, _ = EventDecoder(TOPIC, REGISTRY).decode([framed(**changes) for changes in GOOD])
    checked, refused = check_events(rows.with_columns(log_ms=NOW))
    assert not refused
    assert checked.height == len(GOOD)


def test_impossible_values_are_refused_with_the_reason() -> None:
    values = [framed(**changes) for changes, _ in BAD]
    rows, _ = EventDecoder(TOPIC, REGISTRY).decode([framed(), *values])
    checked, refused = check_events(rows.with_columns(log_ms=NOW))
    assert checked["row"].to_list() == [0]
    for place, (_, reason) in enumerate(BAD, 1):
        assert reason in str(refused[place])


def test_kinds_keep_their_codes_when_others_are_added() -> None:
    # They are in states and batches that were written before.
    assert KINDS[:10] == files.parsed("user_event", 2)["fields"][3]["type"]["symbols"]
    assert KINDS[10:] == ["skip"]


def test_batches_of_before_there_were_skips_are_read() -> None:
    new = columnar.columns("user_event")
    old = {**new, "kind": pl.Enum(KINDS[:10])}
    row = dict.fromkeys(new) | {"kind": "dislike", "user_id": "ada"}
    buffer = BytesIO()
    frame = pl.DataFrame([row], schema=old)
    frame.write_ipc_stream(buffer, compat_level=CompatLevel.oldest())
    read = columnar.from_message(buffer.getvalue(), "user_event")
    assert (read["kind"].to_list(), read.schema) == (["dislike"], new)


def test_a_skip_is_refused_by_itself_by_who_does_not_know_it() -> None:
    """What a worker of before makes of it: a dead letter, while what came with it is read."""
    reader = copy.deepcopy(files.load("user_event"))
    reader["fields"][3]["type"]["symbols"].remove("skip")
    older = fastavro.parse_schema({**reader, "name": "older_user_event"})
    writer = copy.deepcopy(SCHEMA) | {"name": "older_user_event"}
    for kind in ("play", "skip"):
        payload = BytesIO(written({**PLAY, "kind": kind}))
        if kind == "play":
            record = fastavro.schemaless_reader(payload, writer, older)
            assert isinstance(record, dict)
            assert record["kind"] == "play"
        else:
            with pytest.raises(Exception, match="skip"):
                fastavro.schemaless_reader(payload, writer, older)
