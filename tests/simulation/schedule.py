"""What happens in a simulation: events, faults and rules, all drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from streams.kafka.placement import partition_of
from tests.oracle.listeners import BOT, BROWSER, KINDS, RARE_KINDS, Delivery
from tests.simulation.kafka import PARTITIONS
from tests.simulation.rushes import SIDES, Play, plays
from tests.simulation.worker import Rules

START = datetime(2026, 1, 1, 21, 30, tzinfo=UTC)

SCENES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (4, ("track_engagement",)),
    (4, ("track_listening",)),
    (2, ("track_engagement", "rank_trending")),
)
"""How often some stages are together, behind `batch_events`."""

ANOMALIES = ("track_engagement", "detect_anomalies")
"""The stages of every fifth schedule, whose events are those of `tests.simulation.rushes`."""

WRITING_S = 6.0
"""How long events are written; faults begin within this time."""

USERS = tuple(user for side in SIDES for user in side)
SECONDS = (0, 0, 0, 1, 20, 60, 60, 300, 900, 901, 1800, 1801, 5400, 43_200, 86_400)
ERRORS_S = (0, 0, 0, 0, 0, 0, -1, -60, -899, -900, -901, -1800, -86_400, 60, 7200, 86_401)
SILENCES_S: tuple[int, ...] = (0, 60, 960, 5400, 90_000)
"""How long before the last events nothing happens; only the long ones end what anomalies are in."""

Kind = Literal["kill", "cut", "freeze", "expel", "refuse", "unheard", "rewind", "rebalance"]


@dataclass(frozen=True)
class Fault:
    """Something goes wrong: what, to whom, when (a time, or a number of steps or records), and for
    how long, or how far."""

    kind: Kind
    slot: str
    at: float
    amount: float = 0.0

    def __str__(self) -> str:
        when = f"{self.at:.2f} s" if self.at != int(self.at) else f"{self.at:.0f}"
        return f"{self.kind} {self.slot} at {when}" + (
            f", {self.amount:.2f}" if self.amount else ""
        )


@dataclass(frozen=True)
class Step:
    """One record that a client writes: when (virtual seconds), where, and how late the wall is."""

    at: float
    wall_s: float
    delivery: Delivery
    partition: int


@dataclass(frozen=True)
class Forget:
    """Somebody asks that a listener be forgotten: when, in virtual seconds."""

    at: float
    user: str


@dataclass(frozen=True)
class Schedule:
    """Everything of a simulation but the chance of what is left to chance."""

    seed: int
    stages: tuple[str, ...]
    workers: int
    steps: tuple[Step, ...]
    silence_s: float
    faults: tuple[Fault, ...]
    rules: Rules
    lateness_s: int
    dedup_window: int
    forgets: tuple[Forget, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {', '.join(self.stages)}; {self.workers} of each; {self.rules}, "
            f"lateness {self.lateness_s} s, repeats within {self.dedup_window}"
        ]
        for step in self.steps:
            event = step.delivery.event or {}
            what = [f"{name}={value}" for name, value in event.items() if value is not None]
            said = " ".join(what) or repr(step.delivery.garbage)
            lines.append(
                f"  {step.at:6.2f} s, wall {step.wall_s:8.0f} s, [{step.partition}] {said}"
            )
        lines.append(f"  and a last event in each partition after {self.silence_s:.0f} s")
        lines += [f"  {one.at:6.2f} s, forget {one.user}" for one in self.forgets]
        return "\n".join([*lines, *(f"  fault: {fault}" for fault in self.faults)])

    def without_fault(self, number: int) -> Schedule:
        return replace(self, faults=self.faults[:number] + self.faults[number + 1 :])

    def without_forget(self, number: int) -> Schedule:
        return replace(self, forgets=self.forgets[:number] + self.forgets[number + 1 :])

    def without_steps(self, start: int, end: int) -> Schedule:
        return replace(self, steps=self.steps[:start] + self.steps[end:])


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    chance = random.Random(f"schedule {seed}")
    weights, scenes = zip(*SCENES, strict=True)
    (stages,) = chance.choices(scenes, weights)
    write, silences_s = steps, SILENCES_S
    if seed % 5 == 1:
        stages, write, silences_s = ANOMALIES, rushes, SILENCES_S[2:]
    workers = chance.choice((1, 2, 2))
    every = ("batch_events", *stages)
    return Schedule(
        seed,
        every,
        workers,
        tuple(write(chance)),
        chance.choice(silences_s),
        (
            *faults(chance, every, workers),
            *(losses(chance, workers) if stages == ANOMALIES else ()),
        ),
        Rules(
            snapshot_bytes=chance.choice((1, 8_000, 25_000, 1_000_000)),
            truncate_s=chance.choice((0.0, 0.1, 6.0)),
            fetched_at_once=chance.choice((1, 2, 4)),
        ),
        chance.choice((0, 900, 3600)),
        chance.choice((1, 3, 100)),
        tuple(forgets(random.Random(f"forgets {seed}"))) if seed % 3 == 1 else (),
    )


def forgets(chance: random.Random) -> list[Forget]:
    """Somebody is forgotten, in every third schedule; now and then another one, or again."""
    count = chance.choice((1, 1, 2))
    return [Forget(chance.random() * WRITING_S, chance.choice(USERS)) for _ in range(count)]


def steps(chance: random.Random) -> list[Step]:
    """Events of a few listeners, in disorder, with repeats, strays and garbage."""
    found: list[Step] = []
    wall_s, times = 0.0, sorted(chance.random() * WRITING_S for _ in range(chance.randint(6, 20)))
    sent: list[Delivery] = []
    strays = chance.choice((0.0, 0.2, 0.6))
    for number, at in enumerate(times):
        wall_s += chance.choice(SECONDS)
        if sent and chance.random() < 0.15:
            delivery = chance.choice(sent)
        else:
            delivery = _delivery(chance, number, START + timedelta(seconds=wall_s))
        sent.append(delivery)
        partition = partition_of(delivery.key.encode(), PARTITIONS)
        if chance.random() < strays:
            partition = chance.randrange(PARTITIONS)
        for _ in range(chance.choice((1, 1, 1, 1, 2))):
            found.append(Step(at, wall_s, delivery, partition))
    return found


def _delivery(chance: random.Random, number: int, now: datetime) -> Delivery:
    user = chance.choice(USERS)
    if chance.random() < 0.05:
        return Delivery(user, None, b"garbage %d" % number)
    event: dict[str, Any] = {
        "event_id": f"e{number}",
        "user_id": user,
        "episode_id": chance.choice(("pi:100", "pi:102", "pi:unknown")),
        "kind": chance.choice((*KINDS, *KINDS, *RARE_KINDS)),
        "occurred_at": now + timedelta(seconds=chance.choice(ERRORS_S)),
        "heard_ms": chance.choice((0, 0, 30_000, 59_999, 60_000, 1_200_000)),
        "position_ms": chance.choice((0, 60_000, 130_000)),
        "duration_ms": chance.choice((None, 150_000, 4_000_000)),
        "user_agent": chance.choice((None, BROWSER, BOT)),
    }
    if chance.random() < 0.05:
        event["heard_ms"] = -1
    return Delivery(user, event)


def rushes(chance: random.Random) -> list[Step]:
    """The plays of `tests.simulation.rushes`, with repeats and strays."""
    groups = plays(chance)
    found: list[Step] = []
    wall_s, times = 0.0, sorted(chance.random() * WRITING_S for _ in groups)
    strays, number = chance.choice((0.0, 0.0, 0.1)), 0
    for at, group in zip(times, groups, strict=True):
        wall_s += group.after_s
        for play in group.plays:
            number += 1
            delivery = Delivery(play.user, _play(play, number, START + timedelta(seconds=wall_s)))
            partition = partition_of(play.user.encode(), PARTITIONS)
            if chance.random() < strays:
                partition = chance.randrange(PARTITIONS)
            for _ in range(chance.choice((1,) * 9 + (2,))):
                found.append(Step(at, wall_s, delivery, partition))
    return found


def _play(play: Play, number: int, now: datetime) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "user_id": play.user,
        "episode_id": play.episode,
        "kind": "play",
        "occurred_at": now + timedelta(seconds=play.error_s),
    }


def faults(chance: random.Random, stages: Sequence[str], workers: int) -> list[Fault]:
    """A few faults, of one stage more often than of all."""
    found: list[Fault] = []
    for _ in range(chance.choice((0, 1, 2, 3, 4, 5, 6))):
        # What is behind `batch_events` twice as often.
        slot = f"{chance.choice((*stages, *stages[1:]))}/{chance.randrange(workers)}"
        at = chance.random() * WRITING_S
        kind: Kind
        (kind,) = chance.choices(
            ("kill", "cut", "freeze", "expel", "refuse", "unheard", "rewind", "rebalance"),
            (5, 6, 2, 6, 2, 1, 1, 3),
        )
        if kind == "kill":
            # Callbacks of a loop, or calls of a client: most of them early.
            found.append(Fault(kind, slot, int(chance.triangular(1, 400, 60))))
        elif kind in ("cut", "refuse", "unheard"):
            found.append(Fault(kind, slot, chance.randint(1, 40)))
        elif kind == "rewind":
            found.append(Fault(kind, slot, at, chance.randint(1, 6)))
        else:
            found.append(Fault(kind, slot, at, chance.uniform(0.5, 6.0)))
    return found


def losses(chance: random.Random, workers: int) -> list[Fault]:
    """Of the few anomalies there are, one is on its way when its worker is killed, in every other
    schedule."""
    slot = f"detect_anomalies/{chance.randrange(workers)} to episode-anomalies"
    return [Fault("cut", slot, chance.choice((1, 1, 2)))] if chance.random() < 0.5 else []
