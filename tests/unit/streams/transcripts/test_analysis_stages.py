"""The two analysing stages on the in-memory log, crashes and all."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.runtime.in_memory import MemoryRuntime
from streams.transcripts import find_duplicates
from streams.transcripts.core.analysis.duplicates import Entry
from topology.graph import build_graph
from topology.settings import Settings
from topology.tables import FINGERPRINTS

STAGES = ("analyse_transcripts", "find_duplicates")
WORDS = [a + b for a in ("lo", "mi", "ta", "re", "su", "ko") for b in ("ba", "ner", "lim", "do")]


def said(seed: object) -> str:
    return " ".join(random.Random(str(seed)).choices(WORDS, k=200))


def transcript(episode_id: str, text: str, status: str = "ok") -> dict[str, Any]:
    return {"episode_id": episode_id, "status": status, "language": "en", "text": text}


def episode(episode_id: str, day: int) -> dict[str, Any]:
    return {
        "episode_id": episode_id,
        "title": "t",
        "show_id": "pi:s",
        "show_title": "s",
        "source": "podcastindex",
        "published_at": datetime(2026, 1, day, tzinfo=UTC),
    }


@pytest.fixture
def flow() -> MemoryRuntime:
    return started()


def started() -> MemoryRuntime:
    made = MemoryRuntime(build_graph(2), Settings())
    for stage in STAGES:
        made.start(stage)
    return made


def put(flow: MemoryRuntime, *transcripts: dict[str, Any]) -> None:
    for record in transcripts:
        flow.log.append("episode-transcripts", record, key=record["episode_id"])


def newest(flow: MemoryRuntime, topic: str) -> dict[str, dict[str, Any]]:
    """What a compacted topic holds in the end."""
    found: dict[str, dict[str, Any]] = {}
    for message in flow.log.records(topic):
        assert message.key is not None
        key = message.key.decode()
        found.pop(key, None)
        if message.value is not None:
            found[key] = flow.log.wire.decode(topic, message.value)
    return found


def test_a_transcript_that_goes_takes_its_analysis_along(flow: MemoryRuntime) -> None:
    put(flow, *(transcript(f"pi:{n}", said(n)) for n in range(3)))
    flow.run()
    assert set(newest(flow, "episode-analysis")) == {"pi:0", "pi:1", "pi:2"}
    put(flow, transcript("pi:0", "", "failed"))
    flow.log.append("episode-transcripts", None, key="pi:1")
    flow.run()
    (left,) = newest(flow, "episode-analysis").values()
    assert (left["episode_id"], left["words"]) == ("pi:2", 200)


def test_garbage_goes_to_the_dead_letter_topic_and_stops_nothing(flow: MemoryRuntime) -> None:
    flow.log.append("episode-transcripts", b"garbage", key="pi:0")
    flow.log.append("episode-analysis", b"garbage", key="pi:0")
    put(flow, transcript("pi:1", said(1)))
    flow.run()
    assert [m.value for m in flow.log.records("episode-transcripts.dlq")] == [b"garbage"]
    assert [m.value for m in flow.log.records("episode-analysis.dlq")] == [b"garbage"]
    good = [m.key for m in flow.log.records("episode-analysis") if m.value != b"garbage"]
    assert good == [b"pi:1"]


def test_a_reupload_is_told_to_both_and_withdrawn_from_both(flow: MemoryRuntime) -> None:
    flow.log.append("episode-metadata", episode("pi:late", 9), key="pi:late")
    flow.log.append("episode-metadata", episode("pi:early", 1), key="pi:early")
    put(flow, transcript("pi:late", said(1)), transcript("pi:other", said(2)))
    flow.run()
    assert newest(flow, "episode-duplicates") == {}
    put(flow, transcript("pi:early", said(1) + " and a word"))
    flow.run()
    found = newest(flow, "episode-duplicates")
    assert {key: record["duplicate_of"] for key, record in found.items()} == {
        "pi:late": "pi:early",
        "pi:early": None,
    }
    assert found["pi:early"]["similar"][0]["episode_id"] == "pi:late"
    put(flow, transcript("pi:early", said(3)))
    flow.run()
    alone: dict[Any, Any] = {"duplicate_of": None, "similar": []}
    assert newest(flow, "episode-duplicates") == {
        name: {"episode_id": name, **alone} for name in ("pi:early", "pi:late")
    }
    put(flow, transcript("pi:early", "", "none"))
    flow.run()
    assert newest(flow, "episode-duplicates").keys() == {"pi:late"}


def test_the_event_loop_goes_on_while_a_batch_is_compared(flow: MemoryRuntime) -> None:
    drawn = np.random.default_rng(1).integers(0, 256, (20_000, 128), dtype=np.uint8)
    rows = {(0, b"pi:%d" % n): Entry(n, n, row.tobytes()).encode() for n, row in enumerate(drawn)}
    flow.put_rows("find_duplicates", FINGERPRINTS, rows)
    context = flow.start("find_duplicates")
    put(flow, *(transcript(f"rss:{n}", said(n)) for n in range(100)))
    flow._contexts.pop("find_duplicates")
    flow.run()
    handler = context.agents["episode-analysis"].handle
    batch = flow.log.records("episode-analysis")
    assert len(batch) == 100

    async def both() -> int:
        turns = 0
        # Loading the fingerprints is the first call's, not each batch's.
        await handler(batch[:1])
        working: asyncio.Task[Any] = asyncio.create_task(handler(batch[1:]))
        while not working.done():
            turns += 1
            await asyncio.to_thread(int)  # as others do that share the loop and its threads
        return turns

    assert asyncio.run(both()) > 10


def test_times_of_publication_are_remembered_for_the_newest_episodes_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(find_duplicates, "TIMES_REMEMBERED", 2)
    flow = started()
    for day, name in enumerate(("first", "second", "third"), 1):
        flow.log.append("episode-metadata", episode(name, day), key=name)
        flow.run()
    put(flow, *(transcript(name, said(1)) for name in ("third", "second", "first")))
    flow.run()
    # Of the first one it is not known any more that it is the first.
    original = {k: r["duplicate_of"] for k, r in newest(flow, "episode-duplicates").items()}
    assert original == {"first": "second", "third": "second", "second": None}


HISTORY = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["1", "1", "2", ""])), max_size=8
)


@given(HISTORY, st.lists(st.integers(0, 3), max_size=8))
@example([("a", ""), ("a", "1")], [0, 2])
@settings(max_examples=40, deadline=None)
def test_redeliveries_after_crashes_change_nothing(
    history: list[tuple[str, str]], redelivered: list[int]
) -> None:
    calm, stormy = started(), started()
    for step, (name, seed) in enumerate(history):
        record = transcript(name, said(seed), "ok" if seed else "none")
        for flow in (calm, stormy):
            put(flow, record)
            flow.run(timers=False)
        for stage in STAGES:
            stormy.crash(stage, redeliver=redelivered[step] if step < len(redelivered) else 0)
    stormy.run()
    # Offsets differ where an analysis is sent again, the order in which episodes came does not.
    for topic in ("episode-analysis", "episode-duplicates"):
        assert telling(newest(stormy, topic)) == telling(newest(calm, topic))


def telling(records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without those that list no similar episodes: they say what no record says as well."""
    return {key: record for key, record in records.items() if record.get("similar") != []}
