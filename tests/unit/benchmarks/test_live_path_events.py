"""Benchmark events are Avro as fastavro writes it, and no event occurs twice."""

from __future__ import annotations

from benchmarks.live_path.events import KIND_SHARES, Generator
from schemas.codec import RecordCodec
from schemas.registry import FixedRegistry
from topology.graph import build_graph, declared_subjects

TOPIC = "user-events"
REGISTRY = FixedRegistry(declared_subjects(build_graph(2)))
CODEC = RecordCodec(TOPIC, "user_event", REGISTRY)
START_MS = 1_767_225_600_000


def generator(seed: int = 1) -> Generator:
    return Generator(seed, START_MS, 1000.0, REGISTRY.id_of(f"{TOPIC}-value"))


def test_each_event_is_as_fastavro_writes_it() -> None:
    events = generator().draw(2000)
    records = [CODEC.decode(value) for value in events.values]
    assert [CODEC.encode(record) for record in records] == events.values
    assert [record["user_id"].encode() for record in records] == events.users
    assert sum(record["kind"] == "play" for record in records) == events.plays > 0
    assert sum(record["heard_ms"] for record in records) == events.heard_ms > 0
    assert {record["kind"] for record in records} == set(KIND_SHARES)


def test_chunks_go_on_where_the_last_one_ended() -> None:
    one = generator()
    values = [value for _ in range(3) for value in one.draw(500).values]
    records = [CODEC.decode(value) for value in values]
    assert len({record["event_id"] for record in records}) == 1500
    times = [round(record["occurred_at"].timestamp() * 1000) for record in records]
    assert times == list(range(START_MS, START_MS + 1500))


def test_a_seed_gives_the_same_events_again() -> None:
    assert generator().draw(100) == generator().draw(100)
    assert generator().draw(100) != generator(2).draw(100)
