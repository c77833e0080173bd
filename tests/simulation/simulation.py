"""Runs a schedule: the deployment, its supervisor, the faults, and the wait for all to rest."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import NoReturn
from unittest import mock

from confluent_kafka import KafkaException

from schemas.codec import RecordCodec
from streams.events.core.batching import LAST_OFFSET
from streams.events.core.origins import tally_of
from streams.kafka.clients import DeliveryError
from streams.kafka.placement import partition_of
from streams.runtime.faust import runner
from streams.state.store import FencedError
from tests.oracle.listeners import EPISODES, Delivery, last_event
from tests.simulation.batcher import REQUESTS, Batcher, simulated_clients
from tests.simulation.kafka import (
    PARTITIONS,
    Group,
    Logs,
    Network,
    Place,
    Refusal,
    graph,
    partitions_of,
    registry,
    wire,
)
from tests.simulation.schedule import START, WRITING_S, Fault, Schedule, Step
from tests.simulation.watch import Watch
from tests.simulation.worker import Worker
from tests.simulation.world import Killed, World
from topology.settings import Settings

LONGEST_S = 240.0
SETTLED_S = 16.0
"""Longer than any timer of a stage waits."""

SESSION_S = 3.0
"""Silence after which a group takes a member for dead."""

ENDINGS = (FencedError, KafkaException, DeliveryError, TimeoutError)
"""Of what a process may end, to begin anew: faults are expected."""

MOMENTS = 4


@dataclass(frozen=True)
class Moment:
    """What was in the logs and acknowledged at some time."""

    at: float
    ends: dict[Place, int]
    committed: dict[str, dict[Place, int]]
    """By stage."""


@cache
def events_codec() -> RecordCodec:
    return RecordCodec("user-events", "user_event", registry())


class Simulation:
    """A deployment of the stages of a schedule."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.world = World(schedule.seed)
        self.sent: dict[bytes | None, Delivery] = {}
        """What clients wrote, by its bytes."""
        self.moments: list[Moment] = []
        self.failures: list[BaseException] = []
        """Of what processes ended that nothing excuses."""
        self.logs = Logs(self.world, self._wall_ms)
        self.network = Network(self.world, self.logs)
        self.settings = _settings(schedule.lateness_s, schedule.dedup_window)
        self.groups = {
            name: Group(self.world, name, graph().stages[name].consumes) for name in schedule.stages
        }
        self.watches = [
            Watch(graph().stages[name], group, self.logs) for name, group in self.groups.items()
        ]
        self._living: dict[str, Worker | Batcher] = {}
        self._lives: list[Worker | Batcher] = []
        self._skipped_s = 0.0
        self._restarts = self.world.chance("restarts")

    @property
    def now_s(self) -> float:
        """The wall clock of everybody."""
        return START.timestamp() + self.world.now + self._skipped_s

    @property
    def _monotonic_s(self) -> float:
        """The other clock of `batch_events`, by which partitions are quiet: where nobody looks at
        that, no hours pass on it, and what is to be said of them costs no time."""
        hours = self._skipped_s if "detect_anomalies" in self.schedule.stages else 0.0
        return self.world.now + hours

    @property
    def told(self) -> str:
        """What happened, line by line."""
        return "\n".join(f"  {when:8.3f} s  {text}" for when, text in self.world.story)

    def _wall_ms(self) -> int:
        return round(self.now_s * 1000)

    # -- running -----------------------------------------------------------------------------------

    def run(self) -> None:
        """Let everything happen, and wait until nothing more does."""
        with ExitStack() as stack:
            stack.enter_context(
                simulated_clients(self.world, lambda: self.now_s, lambda: self._monotonic_s)
            )
            stack.enter_context(self._ending_processes())
            try:
                self._run()
            finally:
                self._bury()

    def _bury(self) -> None:
        """End whatever has not ended, while it still cannot end us."""
        for process in self._lives:
            process.at_end = lambda _: None
            process.at_death.clear()
            process.alive = False
            process.bury()

    def _run(self) -> None:
        for episode_id, episode in EPISODES.items():
            value = wire().encode("episode-metadata", episode)
            self.logs.append(("episode-metadata", 0), episode_id.encode(), value)
        for slot in self._slots():
            self.world.after(self._restarts.random() * 0.5, partial(self._start, slot))
        for fault in self.schedule.faults:
            self._plan(fault)
        for step in self.schedule.steps:
            self.world.after(step.at, partial(self._write, step))
        for forget in self.schedule.forgets:
            self.world.after(forget.at, partial(self._ask_to_forget, forget.user))
        moments = self.world.chance("moments")
        for _ in range(MOMENTS):
            self.world.after(moments.random() * 2 * WRITING_S, self._note_moment)
        self.world.run_until(WRITING_S)
        self.world.run(self._at_rest, LONGEST_S)
        self._skipped_s += self.schedule.silence_s
        when = datetime.fromtimestamp(int(self.now_s), UTC)
        for partition in range(PARTITIONS):
            self._append(last_event(partition, PARTITIONS, when), partition)
        self.world.run(self._at_rest, LONGEST_S)
        # Timers send what is left; whoever begins anew meanwhile has his own.
        self.world.tell("everything is acknowledged")
        while self.world.now < (settled := self.world.story_s + SETTLED_S):
            self.world.run_until(settled)
        self.world.run(self._at_rest, LONGEST_S)
        self._note_moment()

    def _slots(self) -> Iterator[str]:
        for stage in self.schedule.stages:
            for number in range(self.schedule.workers):
                yield f"{stage}/{number}"

    def _start(self, slot: str) -> None:
        """A supervisor starts a process, and again when it has died."""
        name = slot.partition("/")[0]
        stage, group = graph().stages[name], self.groups[name]
        rules = self.schedule.rules
        process: Worker | Batcher
        if name == "batch_events":
            most = 2 * rules.fetched_at_once
            process = Batcher(slot, stage, group, self.network, self.settings, most)
        else:
            process = Worker(
                slot, stage, group, self.network, self.settings, rules, lambda: self.now_s
            )
        self._living[slot] = process
        self._lives.append(process)
        process.at_death.append(lambda: self._died(process))
        process.at_end = self._judge
        process.start()

    def _died(self, process: Worker | Batcher) -> None:
        group = process.group
        self.world.after(self._restarts.random() * SESSION_S, lambda: group.leave(process))
        self.world.after(0.05 + self._restarts.random(), lambda: self._start(process.slot))

    def _judge(self, error: BaseException | None) -> None:
        if not isinstance(error, ENDINGS):
            self.failures.append(error or RuntimeError("a process ended without an error"))

    @contextmanager
    def _ending_processes(self) -> Iterator[None]:
        def end_process(why: str) -> NoReturn:
            error = sys.exc_info()[1]
            if self.world.running is None or isinstance(error, Killed):
                # What is closed when all is over.
                raise error or Killed
            self.world.running.end(error)

        with mock.patch.object(runner, "end_process", end_process):
            yield

    # -- what happens ------------------------------------------------------------------------------

    def _write(self, step: Step) -> None:
        self._skipped_s = max(self._skipped_s, step.wall_s)
        self._append(step.delivery, step.partition)

    def _append(self, delivery: Delivery, partition: int) -> None:
        value = delivery.value(events_codec().encode)
        self.sent[value] = delivery
        self.logs.append(("user-events", partition), delivery.key.encode(), value)

    def _ask_to_forget(self, user: str) -> None:
        record = {"user_id": user, "requested_at": datetime.fromtimestamp(self.now_s, UTC)}
        place = (REQUESTS, partition_of(user.encode(), PARTITIONS))
        self.logs.append(place, user.encode(), wire().encode(REQUESTS, record))

    def _plan(self, fault: Fault) -> None:
        if fault.kind == "kill":
            self.world.kills.setdefault(fault.slot, set()).add(int(fault.at))
        elif fault.kind == "cut":
            self.network.cuts.add((fault.slot, int(fault.at)))
        elif fault.kind in ("refuse", "unheard"):
            unheard = fault.kind == "unheard"
            self.network.refusals.append(Refusal(fault.slot, int(fault.at), unheard))
        else:
            self.world.after(fault.at, lambda: self._strike(fault))

    def _strike(self, fault: Fault) -> None:
        self.world.tell(str(fault))
        group = self.groups[fault.slot.partition("/")[0]]
        process = self._living.get(fault.slot)
        if fault.kind == "rebalance":
            group.rebalance()
        elif fault.kind == "rewind":
            for place, offset in group.committed.items():
                group.committed[place] = max(0, offset - int(fault.amount))
            group.rebalance()
        elif process is not None and process.alive:
            if fault.kind == "freeze":
                process.freeze(fault.amount)
                if fault.amount > SESSION_S:
                    self.world.after(SESSION_S, lambda: self._expel(group, process))
                    self.world.after(fault.amount, process.expelled)
            else:
                self._expel(group, process)
                self.world.after(fault.amount, process.expelled)

    def _expel(self, group: Group, process: Worker | Batcher) -> None:
        """The group takes a member for dead, which does not know it yet."""
        group.leave(process)

    # -- at rest -----------------------------------------------------------------------------------

    def _at_rest(self) -> bool:
        """Whether everything that was written has been read, and acknowledged."""
        if self.network.underway:
            return False
        for name, group in self.groups.items():
            for topic in group.topics:
                for number in partitions_of(topic):
                    end = self.logs.bounds(topic, number)[1]
                    if name == "batch_events":
                        done = self._accounted(topic, number)
                    else:
                        done = group.committed.get((topic, number), 0)
                    if done != end:
                        return False
        return True

    def _accounted(self, topic: str, partition: int) -> int:
        """The first offset of the events, or of the requests, of which no batch tells."""
        end = self.logs.bounds("user-event-batches", partition)[1]
        batches = self.logs.read("user-event-batches", partition, end - 1, end)
        if not batches:
            return 0
        if topic == REQUESTS:
            return tally_of(batches[-1].headers).requests
        return int(batches[-1].header(LAST_OFFSET) or b"-1") + 1

    def _note_moment(self) -> None:
        ends = {
            (topic, number): self.logs.bounds(topic, number)[1]
            for topic in graph().topics
            for number in partitions_of(topic)
        }
        committed = {name: dict(group.committed) for name, group in self.groups.items()}
        self.moments.append(Moment(self.world.now, ends, committed))


@cache
def _settings(lateness_s: int, dedup_window: int) -> Settings:
    return Settings(
        podstream_home=Path(),
        event_partitions=PARTITIONS,
        allowed_lateness_s=lateness_s,
        dedup_window=dedup_window,
    )
