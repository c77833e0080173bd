"""A listener is forgotten in memory: by the stages of production, whatever is killed when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import columnar
from streams.events.core.batching import Batch
from streams.events.core.origins import Tally, tally_of
from streams.kafka.forgetting import Forgetting, forgetting_of
from streams.kafka.placement import partition_of
from streams.recommendation.core import listeners
from streams.runtime.in_memory import MemoryRuntime
from tests.flow.test_batch_events_in_memory import KilledError, kill_at
from topology.graph import build_graph
from topology.settings import Settings
from topology.tables import LISTENERS

START = datetime(2026, 1, 1, tzinfo=UTC)
PARTITIONS = 2
ADA = partition_of(b"ada", PARTITIONS)
BATCHES, REQUESTS, FORGOTTEN = "user-event-batches", "forget-requests", "forgotten-listeners"


def runtime_of(home: Path, *stages: str, version: str = "") -> MemoryRuntime:
    known = Settings(podstream_home=home, event_partitions=PARTITIONS)
    runtime = MemoryRuntime(build_graph(PARTITIONS, version), known)
    runtime.clock.set(START.timestamp())
    for stage in stages:
        runtime.start(stage)
    return runtime


def hear(runtime: MemoryRuntime, user: str, event_id: str, episode: str = "pi:1") -> None:
    runtime.clock.move(1)
    record = {
        "event_id": event_id,
        "user_id": user,
        "episode_id": episode,
        "kind": "play",
        "occurred_at": START,
        "heard_ms": 60_000,
    }
    runtime.log.append("user-events", record, key=user)


def forget(runtime: MemoryRuntime, user: str, partition: int | None = None) -> None:
    runtime.clock.move(1)
    record = {"user_id": user, "requested_at": START}
    runtime.log.append(REQUESTS, record, key=user, partition=partition)


def batched(runtime: MemoryRuntime, user: str, topic: str = BATCHES) -> list[str]:
    """The events of a listener in batches, and `forget` where they say that it is forgotten."""
    told: list[str] = []
    for message in runtime.log.records(topic):
        forgetting = forgetting_of(message.headers)
        if forgetting is not None and forgetting.user_id == user:
            told.append("forget")
        frame = runtime.log.wire.decode(topic, message.value)
        told += frame.filter(pl.col("user_id") == user)["event_id"].to_list()
    return told


def test_a_request_takes_its_place_among_the_events(tmp_path: Path) -> None:
    runtime = runtime_of(tmp_path, "batch_events")
    hear(runtime, "ada", "before")
    hear(runtime, "dan", "hers")
    runtime.run()
    forget(runtime, "ada")
    runtime.run()
    hear(runtime, "ada", "after")
    runtime.run()
    assert batched(runtime, "ada") == ["before", "forget", "after"]
    assert batched(runtime, "dan") == ["hers"]
    (told,) = runtime.log.records(FORGOTTEN)
    assert forgetting_of(told.headers) == Forgetting("ada", 2, 1, 1_767_225_603_000)
    assert (told.partition, told.key) == (ADA, b"ada")
    assert runtime.log.decoded(FORGOTTEN)[0]["up_to"] == 1


def requests_first(runtime: MemoryRuntime) -> None:
    """Start `batch_events` so that it reads requests before events, as one that is behind does."""
    context = runtime.start("batch_events")
    context.agents = dict(sorted(context.agents.items(), key=lambda one: one[0] != REQUESTS))


def test_what_was_done_before_the_request_and_is_read_after_it_is_left_out(tmp_path: Path) -> None:
    runtime = runtime_of(tmp_path)
    hear(runtime, "ada", "before")
    forget(runtime, "ada")
    hear(runtime, "ada", "after")
    hear(runtime, "dan", "hers")
    requests_first(runtime)
    runtime.run()
    assert batched(runtime, "ada") == ["forget", "after"]
    assert batched(runtime, "dan") == ["hers"]
    last = [m for m in runtime.log.records(BATCHES) if m.partition == ADA][-1]
    assert tally_of(last.headers) == Tally(forgotten=1, requests=1)


def test_a_request_that_lies_elsewhere_or_is_garbage_is_put_aside(tmp_path: Path) -> None:
    runtime = runtime_of(tmp_path, "batch_events")
    forget(runtime, "ada", partition=1 - ADA)
    runtime.log.append(REQUESTS, b"garbage", key="ada")
    forget(runtime, "dan")
    runtime.run()
    assert sorted(batched(runtime, user) for user in ("ada", "dan")) == [[], ["forget"]]
    assert len(runtime.log.records("forget-requests.dlq")) == 2


def some_life(home: Path) -> MemoryRuntime:
    """Two listeners of a partition, of whom one is forgotten twice."""
    runtime = runtime_of(home, "batch_events")
    for number in range(8):
        hear(runtime, ("ada", "dan")[number % 2], f"e{number}")
        if number in (3, 5):
            forget(runtime, "ada")
    return runtime


@pytest.mark.parametrize("written", [False, True])
def test_a_kill_at_any_record_forgets_no_less_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    number, killed = 0, True
    while killed:
        runtime = some_life(tmp_path)
        kill_at(runtime, number, monkeypatch, written=written)
        try:
            runtime.run(max_batch=2)
            killed = False
        except KilledError:
            runtime.crash("batch_events", redeliver=number % 3)
            runtime.run(max_batch=3)
        number += 1
        assert set(batched(runtime, "dan")) == {"e1", "e3", "e5", "e7"}
        told = batched(runtime, "ada")
        last = len(told) - 1 - told[::-1].index("forget")
        assert told.count("forget") == 2, f"killed at record {number - 1}: {told}"
        assert set(told[last:]) <= {"forget", "e6"}, "what lies before is forgotten"
        assert "e6" in told, "what lies behind counts"
    assert number > 6


def test_a_replay_brings_nobody_back(tmp_path: Path) -> None:
    runtime = some_life(tmp_path)
    runtime.run()
    nothing = pl.DataFrame(schema=columnar.columns("user_event"))
    beginning = tuple(Batch(ADA, 0, -1, nothing).headers().items())
    runtime.log.append(BATCHES, nothing, partition=ADA, headers=beginning)
    known = len(runtime.log.records(BATCHES))
    runtime.crash("batch_events", redeliver=1_000)
    runtime.run(max_batch=3)
    told = {
        (row["user_id"], row["event_id"])
        for message in runtime.log.records(BATCHES)[known:]
        for row in runtime.log.wire.decode(BATCHES, message.value).to_dicts()
    }
    assert told == {("dan", f"e{n}") for n in (1, 3, 5, 7)} | {("ada", "e6")}
    answers = [forgetting_of(m.headers) for m in runtime.log.records(BATCHES)[known:]]
    assert all(one is None or one.up_to < 6 for one in answers), "e6 came after the requests"


def test_another_version_leaves_out_what_the_first_one_has_forgotten(tmp_path: Path) -> None:
    first = runtime_of(tmp_path, "batch_events")
    hear(first, "ada", "before")
    forget(first, "ada")
    first.run()
    hear(first, "ada", "after")
    second = runtime_of(tmp_path, version="v2")
    for topic in ("user-events", REQUESTS, FORGOTTEN):
        for message in first.log.records(topic):
            second.clock.set(message.timestamp_ms / 1000)
            second.log.append(
                topic,
                first.log.wire.decode(topic, message.value),
                key=message.key,
                partition=message.partition,
                headers=message.headers,
            )
    second.start("batch_events")
    second.run()
    told = batched(second, "ada", f"podstream-v2-{BATCHES}")
    assert [one for one in told if one != "forget"] == ["after"]
    assert len(second.log.records(FORGOTTEN)) == 1, "the first version alone says who is forgotten"


# -- recommend ---------------------------------------------------------------------------------


class Lists:
    """`recommend` on batches that a test writes, one event or forgetting a message."""

    def __init__(self, home: Path):
        self.runtime = runtime_of(home)
        for number in range(3):
            record = {
                "episode_id": f"e:{number}",
                "title": "",
                "show_id": "s:1",
                "show_title": "",
                "published_at": START - timedelta(days=number),
                "source": "import",
            }
            self.runtime.log.append("episode-metadata", record, key=f"e:{number}")
        self.runtime.start("recommend")
        self.offset = 0

    def heard(self, user: str, episode: int) -> None:
        row = {
            **dict.fromkeys(columnar.columns("user_event")),
            "partition": ADA,
            "offset": self.offset,
            "event_id": f"event-{self.offset}",
            "user_id": user,
            "episode_id": f"e:{episode}",
            "kind": "play",
            "occurred_at": START + timedelta(minutes=self.offset),
            "heard_ms": 60_000,
            "position_ms": 0,
        }
        self.offset += 1
        frame = pl.DataFrame([row], schema=dict(columnar.columns("user_event")))
        self.runtime.log.append(BATCHES, frame, partition=ADA)

    def forget(self, user: str) -> None:
        frame = pl.DataFrame(schema=columnar.columns("user_event"))
        forgetting = Forgetting(user, self.offset, self.offset - 1, 0)
        headers = tuple(forgetting.headers().items())
        self.runtime.log.append(BATCHES, frame, partition=ADA, headers=headers)

    def skip(self) -> None:
        """An offset whose event nobody has heard of."""
        self.offset += 1

    def states(self) -> dict[str, Any]:
        rows = self.runtime.rows("recommend", LISTENERS)
        return {key.decode(): listeners.decode(value) for (_, key), value in rows.items()}

    def newest(self) -> dict[str, Any]:
        """What is left of each listener's lists once the topic is compacted."""
        log = self.runtime.log
        found = {m.key_text: m.value for m in log.records("recommendations")}
        return {
            user: log.wire.decode("recommendations", value)
            for user, value in found.items()
            if value is not None
        }


def test_list_and_state_go_with_the_message_and_come_back_with_the_next_event(
    tmp_path: Path,
) -> None:
    lists = Lists(tmp_path)
    lists.heard("ada", 0)
    lists.heard("dan", 1)
    lists.runtime.run()
    assert lists.newest().keys() == {"ada", "dan"}
    lists.forget("ada")
    lists.runtime.run()
    assert lists.newest().keys() == lists.states().keys() == {"dan"}
    lists.heard("ada", 2)
    lists.runtime.run()
    assert lists.states()["ada"].episodes.keys() == {"e:2"}
    assert "e:0" in {item["episode_id"] for item in lists.newest()["ada"]["items"]}


acts = st.lists(
    st.tuples(st.sampled_from(["heard", "heard", "forget"]), st.sampled_from(["ada", "dan"])),
    max_size=12,
)


@given(acts, st.integers(1, 6), st.integers(0, 6), st.integers(0, 12))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_to_be_forgotten_and_go_on_is_never_to_have_been_heard_of(
    tmp_path: Path, done: list[tuple[str, str]], at_once: int, redeliver: int, stop: int
) -> None:
    last = {user: n for n, (act, user) in enumerate(done) if act == "forget"}
    live, anew = Lists(tmp_path), Lists(tmp_path)
    for number, (act, user) in enumerate(done):
        if number == stop:
            live.runtime.run(max_batch=at_once)
            live.runtime.crash("recommend", redeliver=redeliver)
        if act == "forget":
            live.forget(user)
            continue
        live.heard(user, number % 3)
        if number < last.get(user, -1):
            anew.skip()
        else:
            anew.heard(user, number % 3)
    live.runtime.run(max_batch=at_once)
    anew.runtime.run(max_batch=at_once)
    assert live.states() == anew.states()
    assert live.newest().keys() == anew.newest().keys()
