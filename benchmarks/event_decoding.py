"""Decoding listener events: joined into Avro blocks against fastavro record by record.

Both sides get the same framed messages and end with the same polars frame. They take turns in one
run; the figures are medians. Usage: ``python benchmarks/event_decoding.py [MESSAGES]``.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from datetime import UTC, datetime
from typing import Any

import machine
import polars as pl

from schemas import columnar
from schemas.codec import RecordCodec
from schemas.registry import FixedRegistry
from streams.events.core.events import EventDecoder
from topology.graph import build_graph, declared_subjects
from topology.topics.events import USER_EVENTS

TOPIC = USER_EVENTS.name
ROUNDS = 5
CHUNK = 20_000


def messages(count: int) -> list[bytes]:
    """Framed events of 200,000 listeners and 20,000 episodes."""
    codec = RecordCodec(TOPIC, "user_event", FixedRegistry(declared_subjects(build_graph(4))))
    rng = random.Random(1)
    kinds = ("impression", "click", "play", "progress", "complete")
    start = 1_767_225_600_000
    return [
        codec.encode(
            {
                "event_id": f"{rng.getrandbits(128):032x}",
                "user_id": f"listener-{rng.randrange(200_000):06d}",
                "episode_id": f"pi:{rng.randrange(20_000)}",
                "kind": rng.choice(kinds),
                "occurred_at": datetime.fromtimestamp((start + number) / 1000, UTC),
                "heard_ms": rng.randrange(60_000),
                "position_ms": rng.randrange(3_600_000),
                "session_id": f"s{rng.randrange(10**6)}",
                "surface": "recommendations",
                "rank": rng.randrange(1, 50),
                "generation": "20260101T000000Z",
            }
        )
        for number in range(count)
    ]


def in_blocks(values: list[bytes], decoder: EventDecoder) -> pl.DataFrame:
    """The events of all messages, decoded in blocks, as `batch_events` does."""
    frames = []
    for start in range(0, len(values), CHUNK):
        frame, bad = decoder.decode(values[start : start + CHUNK])
        if bad:
            raise SystemExit(f"{len(bad)} messages did not decode")
        frames.append(frame.drop("row"))
    return pl.concat(frames)


def one_by_one(values: list[bytes], codec: RecordCodec) -> pl.DataFrame:
    """The events of all messages, decoded one by one."""
    schema = dict(columnar.columns("user_event"))
    for name in columnar.SOURCE_COLUMNS:
        del schema[name]
    return pl.DataFrame([codec.decode(value) for value in values], schema=schema)


def main() -> None:
    """Measure both sides in turn and print JSON."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    values = messages(count)
    registry = FixedRegistry(declared_subjects(build_graph(4)))
    decoder, codec = EventDecoder(TOPIC, registry), RecordCodec(TOPIC, "user_event", registry)
    sides: dict[str, Any] = {
        "blocks": lambda: in_blocks(values, decoder),
        "fastavro": lambda: one_by_one(values, codec),
    }
    ours, theirs = sides["blocks"](), sides["fastavro"]()
    same = ours["heard_ms"].equals(theirs["heard_ms"]) and ours["user_id"].equals(theirs["user_id"])
    if not same:
        raise SystemExit("the two sides disagree")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    machine.report(
        "event_decoding",
        {
            "messages": count,
            "rounds": ROUNDS,
            "events_per_s": {name: round(count / median) for name, median in medians.items()},
            "ratio": round(medians["fastavro"] / medians["blocks"], 2),
        },
    )


if __name__ == "__main__":
    main()
