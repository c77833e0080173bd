"""The live tables in memory against the oracle: any log, any cut, kills at any moment."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from schemas.codec import RecordCodec
from streams.kafka.placement import partition_of
from streams.runtime.in_memory import MemoryContext, MemoryRuntime
from tests.oracle.check import Oracle
from tests.oracle.listeners import (
    BOT,
    BROWSER,
    EPISODES,
    KINDS,
    RARE_KINDS,
    Delivery,
    Listeners,
    last_event,
)
from tests.oracle.log import Entry
from topology.graph import build_graph, state_topic
from topology.settings import Settings

pytestmark = pytest.mark.no_cover
"""Measuring branches doubles the time, and chance is no test of a branch."""

START = datetime(2026, 1, 1, 21, 30, tzinfo=UTC)
TRACKERS = ("track_engagement", "track_listening", "rank_trending")
ALL_CHECKS = (Oracle.check_engagement, Oracle.check_listening, Oracle.check_trending)


class Killed(BaseException):
    """The process is gone, in the middle of whatever it did."""


class River(MemoryRuntime):
    """The event path in memory, and what was written to it.

    As with a real broker, what a tracker sends is on its way until the tracker has waited for the
    delivery: at a kill, each partition has got some of it, the first records first. What trackers
    note of their state is in its log at once, which is the worse case: it is ahead of what was
    sent.
    """

    def __init__(self, stages: Sequence[str], partitions: int, **more: Any) -> None:
        self._settings = Settings(podstream_home=Path(), event_partitions=partitions, **more)
        graph = build_graph(partitions)
        super().__init__(graph, self._settings, snapshot_bytes=20_000)
        self._stages = stages
        self._events: dict[int, list[Entry]] = {number: [] for number in range(partitions)}
        self._codec = RecordCodec("user-events", "user_event", self.log.registry)
        self._outputs = {topic for name in stages for topic in graph.stages[name].produces}
        self._states = {
            state_topic(graph.stages[name], table).name
            for name in stages
            for table in graph.stages[name].tables
        }
        self._underway: dict[tuple[str, int | None], list[dict[str, Any]]] = defaultdict(list)
        self._lives = -1
        self._append = self.log.append
        self.log.append = self._send  # type: ignore[method-assign]
        for episode_id, episode in EPISODES.items():
            self._append("episode-metadata", episode, key=episode_id)
        for stage in ("batch_events", *stages):
            self.start(stage)

    def start(self, stage_name: str) -> MemoryContext:
        context = super().start(stage_name)
        flush = context.flush

        async def land() -> None:
            await flush()
            if self._underway:
                self._live_on()
                self._arrive()

        context.flush = land  # type: ignore[method-assign]
        return context

    def _send(self, topic: str, value: Any, **record: Any) -> Any:
        if topic in self._outputs:
            self._live_on()
            place = (topic, record.get("partition"))
            self._underway[place].append({"value": value, **record})
            return None
        if topic in self._states:
            self._live_on()
        return self._append(topic, value, **record)

    def _live_on(self) -> None:
        if self._lives == 0:
            raise Killed
        self._lives -= 1

    def _arrive(self, lost: random.Random | None = None) -> None:
        """What is underway arrives, without what is lost at a kill."""
        for (topic, _), records in self._underway.items():
            number = lost.randint(0, len(records)) if lost else len(records)
            for record in records[:number]:
                self._append(topic, **record)
        self._underway.clear()

    def write(self, delivery: Delivery, at: datetime, partition: int | None = None) -> None:
        """One record, with the log's clock at ``at``."""
        if partition is None:
            partition = partition_of(delivery.key.encode(), len(self._events))
        value = delivery.value(self._codec.encode)
        self.clock.set(at.timestamp())
        message = self._append("user-events", value, key=delivery.key, partition=partition)
        self._events[partition].append(Entry(message.offset, at, delivery.readable))

    def finish(self, at: datetime) -> None:
        """One last event in each partition, all at the same time, and everything read."""
        for partition in self._events:
            self.write(last_event(partition, len(self._events), at), at, partition)
        self.run()

    def run_and_kill(self, max_batch: int, sends: int, redeliver: int) -> None:
        """Run until the trackers have sent so many records, or all was read; then kill them."""
        self._lives = sends
        with suppress(Killed):
            self.run(max_batch=max_batch)
        self._lives = -1
        self._arrive(random.Random(max_batch * sends + redeliver))
        for stage in self._stages:
            self.crash(stage, redeliver=redeliver)

    def outputs(self, topic: str) -> list[tuple[int, Any]]:
        messages = self.log.records(topic)
        values = self.log.decoded(topic)
        return [
            (message.partition, value.to_dicts() if isinstance(value, pl.DataFrame) else value)
            for message, value in zip(messages, values, strict=True)
        ]

    def check(self, *checks: Callable[..., Any]) -> None:
        oracle = Oracle.of(
            self._events,
            EPISODES,
            lateness_s=self._settings.allowed_lateness_s,
            dedup_window=self._settings.dedup_window,
        )
        dead = [
            (
                int(message.header("__connect.errors.partition") or b""),
                int(message.header("__connect.errors.offset") or b""),
            )
            for message in self.log.records("user-events.dlq")
        ]
        oracle.check_batches(self.outputs, dead)
        for check in checks:
            check(oracle, self.outputs)


# -- any small log -------------------------------------------------------------------------------

SECONDS = st.sampled_from(
    (0, 0, 0, 0, 0, 1, 20, 60, 300, 900, 1800, 1800, 1801, 5400, 43_200, 86_400)
)
ERRORS_S = st.sampled_from(
    (0, 0, 0, 0, 0, 0, -1, -59, -60, -900, -901, -1800, -3600, -86_400, 60, 7200, 86_400, 86_401)
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[int, Delivery, int]:
    """Seconds since the step before, what comes then, and how often."""
    event: dict[str, Any] = {
        "user_id": draw(st.sampled_from(("anna", "anna", "bert", "carl"))),
        "episode_id": draw(st.sampled_from(("pi:100", "pi:100", "pi:102", "pi:105", "pi:unknown"))),
        "kind": draw(st.sampled_from((*KINDS, *RARE_KINDS))),
        "occurred_at": timedelta(seconds=draw(ERRORS_S)),
        "heard_ms": draw(st.sampled_from((0, 0, 1, 30_000, 59_999, 60_000, 600_000, 1_200_000))),
        "position_ms": draw(st.sampled_from((0, 1, 60_000, 60_001, 130_000, 15_400_000))),
        "duration_ms": draw(st.sampled_from((None, None, 0, 150_000, 4_000_000))),
        "user_agent": draw(st.sampled_from((None, None, BROWSER, BOT))),
        "event_id": f"e{draw(st.integers(0, 10**6))}",
    }
    match draw(st.integers(0, 30)):
        case 0:
            return 0, Delivery(event["user_id"], None, b"garbage"), 1
        case 1:
            event["heard_ms"] = -1
    return draw(SECONDS), Delivery(event["user_id"], event), draw(st.sampled_from((1, 1, 2, 3)))


KILLS = st.tuples(st.integers(1, 30), st.integers(1, 12), st.integers(0, 12), st.integers(0, 3))
"""Steps written, then read in batches of so many, until so many sends; messages that come again."""

PROPERTY = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # Making a failing log shorter takes longer than a test may: add Phase.shrink to wait for it.
    phases=[Phase.reuse, Phase.generate],
)


def flow(
    stages: Sequence[str],
    checks: Sequence[Callable[..., Any]],
    log: Sequence[tuple[float, Delivery, int]],
    kills: list[tuple[int, int, int, int]],
    partitions: int,
    lateness: int,
    dedup_window: int,
    silence: float,
) -> None:
    river = River(stages, partitions, allowed_lateness_s=lateness, dedup_window=dedup_window)
    now, rest = START, list(log)
    for number, max_batch, sends, redeliver in [*kills, (len(log), 5, 10**6, 0)]:
        for seconds, delivery, times in rest[:number]:
            now += timedelta(seconds=seconds)
            if delivery.event is not None:
                event = {**delivery.event, "occurred_at": now + delivery.event["occurred_at"]}
                delivery = Delivery(delivery.key, event)
            for _ in range(times):
                river.write(delivery, now)
        rest = rest[number:]
        river.run_and_kill(max_batch, sends, redeliver)
    river.finish(now + timedelta(seconds=silence))
    river.check(*checks)


any_flow = given(
    log=st.lists(steps(), min_size=10, max_size=60),
    kills=st.lists(KILLS, max_size=5),
    partitions=st.sampled_from((1, 3, 4)),
    lateness=st.sampled_from((0, 900, 3600)),
    dedup_window=st.sampled_from((3, 100_000)),
    silence=st.sampled_from((0, 5400, 90_000)),
)


@any_flow
@PROPERTY
def test_engagement_of_any_log(**given: Any) -> None:
    flow(["track_engagement"], [Oracle.check_engagement], **given)


@any_flow
@PROPERTY
def test_listening_of_any_log(**given: Any) -> None:
    flow(["track_listening"], [Oracle.check_listening], **given)


@any_flow
@PROPERTY
def test_trending_of_any_log(**given: Any) -> None:
    flow(["track_engagement", "rank_trending"], [Oracle.check_trending], **given)


# -- every boundary, met exactly -------------------------------------------------------------------


def at_boundary(after_s: float, user: str, episode: str, **event: Any) -> tuple[Any, ...]:
    """A step: an event so long after the one before; ``ago_s`` before it comes."""
    ago = timedelta(seconds=-event.pop("ago_s", 0))
    known = {"event_id": f"{user} {event} {after_s}", "user_id": user, "episode_id": episode}
    return after_s, Delivery(user, {**known, "kind": "progress", "occurred_at": ago, **event}), 1


BOUNDARIES = [
    # A listener is new after more than 24 hours.
    at_boundary(0, "carl", "pi:100", kind="play"),
    at_boundary(0, "bert", "pi:101", kind="play"),
    # Yesterday is heard of after today, and makes today the second day in a row.
    at_boundary(9300, "tina", "pi:107", kind="play"),
    at_boundary(0, "tina", "pi:107", kind="play", ago_s=600),
    # Six hours before the end, when what trends is too old.
    at_boundary(65_400, "ulla", "pi:108", kind="play"),
    at_boundary(11_700, "carl", "pi:100", kind="play"),
    at_boundary(0.001, "bert", "pi:101", kind="play"),
    # A session goes on after half an hour: two halves make a stream. After more it does not.
    at_boundary(60, "anna", "pi:102", heard_ms=30_000),
    at_boundary(1800, "anna", "pi:102", heard_ms=30_000),
    at_boundary(0, "fred", "pi:102", heard_ms=59_999),
    at_boundary(1800.001, "fred", "pi:102", heard_ms=1),
    # Two fifths of an episode, or twenty minutes.
    at_boundary(0, "gina", "pi:103", heard_ms=60_000, duration_ms=150_000),
    at_boundary(0, "hans", "pi:103", heard_ms=59_999, duration_ms=150_000),
    at_boundary(0, "iris", "pi:103", heard_ms=1_200_000),
    at_boundary(0, "jack", "pi:103", heard_ms=1_199_999),
    # Minutes of the episode.
    at_boundary(0, "kate", "pi:104", heard_ms=60_000, position_ms=60_000),
    at_boundary(0, "lena", "pi:104", heard_ms=60_000, position_ms=60_001),
    at_boundary(0, "mike", "pi:104", heard_ms=1, position_ms=256 * 60_000),
    at_boundary(0, "nora", "pi:104", heard_ms=1, position_ms=256 * 60_000 + 1),
    # As late as may be, and later.
    at_boundary(0, "olaf", "pi:105", heard_ms=1, ago_s=900),
    at_boundary(0, "paul", "pi:105", heard_ms=1, ago_s=900.001),
    # An event comes again three offsets later, which is a repeat here, and then after four.
    *(
        at_boundary(0, "rita", "pi:107", kind="click", event_id=name)
        for name in ("again", "r1", "r2", "again", "r3", "r4", "r5", "again")
    ),
    # At half past eleven, and half a minute before midnight; see below.
    at_boundary(3539.998, "dora", "pi:106", kind="play"),
    at_boundary(1770, "emma", "pi:106", kind="play"),
]


@pytest.mark.parametrize("seconds", [-0.001, 0, 0.001])
def test_every_boundary_is_where_it_should_be(seconds: float) -> None:
    # At a quarter past midnight a day, a minute and a session end, or are just about to.
    silence = 930 + seconds
    kills = [(3, 5, 10**6, 0)]  # between the two events of tina
    flow(TRACKERS, ALL_CHECKS, BOUNDARIES, kills, 1, lateness=900, dedup_window=3, silence=silence)


# -- a crowd, over a day -------------------------------------------------------------------------


@pytest.mark.parametrize("partitions", [1, 3, 4])
def test_a_crowd_is_counted_exactly_through_kills(partitions: int) -> None:
    chance = random.Random(partitions)
    lateness = timedelta(seconds=900)
    river = River(TRACKERS, partitions, allowed_lateness_s=900, dedup_window=500)
    crowd = Listeners(partitions, listeners=30, lateness=lateness)
    now = START
    for _ in range(20):
        end = now + timedelta(minutes=chance.choice((0.5, 1, 5, 25)))
        arriving = list(crowd.deliveries(75, now, end, fast=timedelta(hours=8)))
        for place, delivery in enumerate(arriving):
            at = now + (end - now) * (place / len(arriving))
            river.write(delivery, at.replace(microsecond=0))
        for _ in range(3):
            river.run_and_kill(chance.randrange(1, 30), chance.randrange(30), chance.randrange(4))
        now = end + timedelta(minutes=chance.choice((1, 40, 170)))
    for delivery in crowd.rest():
        river.write(delivery, now)
    river.finish(now + timedelta(hours=1))
    river.check(*ALL_CHECKS)


@pytest.mark.parametrize("partitions", [1, 3])
def test_anomalies_are_those_in_the_log_through_kills(partitions: int) -> None:
    chance = random.Random(partitions)
    river = River(("track_engagement", "detect_anomalies"), partitions)
    crowd = Listeners(partitions, listeners=30, lateness=timedelta(seconds=900))
    for number in range(60):
        now = START + number * timedelta(minutes=4)
        for delivery in crowd.deliveries(20, now, now + timedelta(minutes=1), fast=timedelta()):
            river.write(delivery, now)
        if number % 8 == 7:
            for delivery in crowd.rush(100, now):
                river.write(delivery, now)
        river.run_and_kill(chance.randrange(1, 30), chance.randrange(30), chance.randrange(4))
    river.finish(now + timedelta(hours=1))
    found: list[int] = []
    river.check(lambda oracle, out: found.append(oracle.check_anomalies(out)))
    assert found[0] > 0


def test_anomalies_are_the_same_for_any_partition_count() -> None:
    """Plays in disorder of up to a quarter of an hour; one episode rises, one falls."""
    outcomes = []
    for partitions, minutes_a_run, max_batch in ((1, 10, 30), (3, 25, 12), (4, 180, 64)):
        chance = random.Random(7)
        river = River(("track_engagement", "detect_anomalies"), partitions)
        coming: list[tuple[int, int, int, dict[str, Any]]] = []
        for minute in range(180):
            for number, plays in enumerate(
                (4, 3 if minute < 100 else 20, 4 if minute < 140 else 0)
            ):
                for _ in range(plays + 1):
                    name, kind = f"e{len(coming)}", "play" if plays else "click"
                    event = {"event_id": name, "user_id": f"u{chance.randrange(40)}", "kind": kind}
                    event["episode_id"] = f"pi:{number}"
                    coming.append((minute + chance.randrange(13), len(coming), minute, event))
        coming.sort(key=lambda one: one[:2])
        for number, (arrived, _, minute, event) in enumerate(coming):
            at, arrival = (START + timedelta(minutes=m) for m in (minute, arrived))
            river.write(Delivery(event["user_id"], {**event, "occurred_at": at}), arrival)
            if number % (minutes_a_run * 12) == 0:
                river.run(max_batch=max_batch)
        river.finish(START + timedelta(minutes=200))
        river.check(Oracle.check_anomalies)
        outcomes.append(
            sorted(
                (one["at"], one["episode_id"], one["direction"], one["plays"], one["score"])
                for _, one in river.outputs("episode-anomalies")
            )
        )
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert {one[1:3] for one in outcomes[0]} == {("pi:1", "rise"), ("pi:2", "fall")}


def test_a_source_partition_that_lags_makes_no_fall() -> None:
    """What it has not told yet is half of the plays."""
    river = River(("track_engagement", "detect_anomalies"), 2)
    owned: dict[int, list[str]] = {0: [], 1: []}
    for number in range(60):
        owned[partition_of(f"u{number}".encode(), 2)].append(f"u{number}")

    def play(minutes: range, arrives: int, *partitions: int) -> None:
        for minute in minutes:
            for user in (user for partition in partitions for user in owned[partition][:12]):
                at = START + timedelta(minutes=minute)
                play = {"event_id": f"{user} {minute}", "user_id": user, "kind": "play"}
                event = {**play, "episode_id": "pi:100", "occurred_at": at}
                delivery, arrival = Delivery(user, event), START + timedelta(minutes=arrives)
                river.write(delivery, arrival)

    def told() -> list[tuple[str, int]]:
        found = [record for _, record in river.outputs("episode-anomalies")]
        return [(one["direction"], (one["at"] - START) // timedelta(minutes=1)) for one in found]

    for start in range(0, 100, 10):
        play(range(start, start + 10), start + 10, 0, 1)
        river.run()
    for start in range(100, 180, 20):
        play(range(start, start + 20), start + 20, 0)
        river.run()
    assert told() == []
    play(range(100, 180), 180, 1)
    # Then nobody plays it for a while, which is a fall.
    play(range(210, 211), 211, 0, 1)
    river.finish(START + timedelta(minutes=240))
    assert told()[0] == ("fall", 180)
    river.check(Oracle.check_anomalies)
