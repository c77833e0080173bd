"""simulate_listeners: plays the listeners, a closed loop around the recommender.

`python -m streams.demo.simulate_listeners` shows each listener what the recommender has for it
(what is trending, where it has nothing yet) and sends what the listener does. What a listener does
is a function of the seed, the start of the run and of what it was shown; ids never repeat between
runs.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from schemas.units import MINUTE_MS
from streams.demo.core.simulation import (
    LIST_LENGTH,
    PLAYER_KINDS,
    RECOMMENDATIONS,
    TRENDING,
    Act,
    ShownList,
    Truth,
    session,
    user_agent,
)
from streams.demo.core.taste import Catalogue, name_rng
from streams.engagement.core.trending import merge_scopes
from streams.kafka.clients import producer
from streams.kafka.entry import refusals_as_sentences, require_access
from streams.kafka.log_reader import BackgroundReader
from streams.kafka.message import Message
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire
from streams.monitoring.server import serve
from streams.operations.disk import shortage
from topology.graph import check_reads, check_writes, get_graph
from topology.model import Graph
from topology.settings import Settings, get_settings
from topology.topics import recommendation
from topology.topics.engagement import TRENDING_EPISODES

STAGE = "simulate_listeners"
LISTENERS, RATE, SEED = 200, 40.0, 1
REPORT_EVERY_S = 10.0
TICK_S = 0.05
DISK_EVERY_S = 5.0
UNKNOWN_DURATION_MS = 30 * MINUTE_MS
EVENTS_PER_SESSION_S = 4.0
"""So fast do the events of one session follow each other: what sets how many run at once."""

MOST_EMPTY_SESSIONS = 100
STOP_TIMEOUT_S = 10.0


class Listeners:
    """The simulated listeners, without clients: records in, events out."""

    def __init__(
        self,
        wire: Wire,
        *,
        count: int = LISTENERS,
        seed: int = SEED,
        run: int = 0,
        concurrent: int = 10,
    ):
        """``run`` tells runs of one seed apart; ``concurrent`` sessions run at a time."""
        self._wire = wire
        self._names = [f"listener-{number:04d}" for number in range(1, count + 1)]
        self._seed = seed
        self._run = run
        self._concurrent = min(concurrent, count)
        self._namespace = uuid.uuid5(uuid.NAMESPACE_OID, f"podstream/{seed}/{run}")
        self._order = name_rng(seed, "order", str(run))
        self._catalogue = Catalogue(seed)
        self._lists: dict[str, Message] = {}
        self._trending: dict[int, dict[str, Any]] = {}
        self._heard: dict[str, set[str]] = {name: set() for name in self._names}
        self._sessions: deque[tuple[str, str, Iterator[Act]]] = deque()
        self._begun = 0
        self._sent = 0
        self.truth = Truth()

    def apply(self, messages: Sequence[Message]) -> None:
        """Learn from records of the broadcast topics; what does not decode is passed over."""
        # A list is decoded when it is shown: most are replaced before that.
        lists = [m for m in messages if m.topic == recommendation.RECOMMENDATIONS.name]
        self._lists |= {m.key_text: m for m in lists if m.value and m.key_text in self._heard}
        others = [m for m in messages if m.topic != recommendation.RECOMMENDATIONS.name]
        for message, record in self._wire.readable(others, STAGE):
            if message.topic == TRENDING_EPISODES.name:
                if record and record["scope"] == "all":
                    self._trending[record["source_partition"]] = record
            elif record is None:
                self._catalogue.withdraw(message.key_text)
            else:
                seconds = record["duration_s"]
                self._catalogue.add(
                    record["episode_id"],
                    record["categories"],
                    seconds * 1000 if seconds else UNKNOWN_DURATION_MS,
                )

    def next_event(self, now_ms: int) -> dict[str, Any] | None:
        """The next `user_event`, which happens at ``now_ms``; None if nobody has anything to do."""
        for _ in range(MOST_EMPTY_SESSIONS):
            while len(self._sessions) < self._concurrent:
                self._sessions.append(self._begin())
            session_id, listener, acts = self._sessions.popleft()
            act = next(acts, None)
            if act is not None:
                self._sessions.append((session_id, listener, acts))
                return self._event(session_id, listener, act, now_ms)
        return None

    def _begin(self) -> tuple[str, str, Iterator[Act]]:
        busy = {listener for _, listener, _ in self._sessions}
        free = [name for name in self._names if name not in busy]
        listener = free[int(self._order.integers(len(free)))]
        self._begun += 1
        rng = name_rng(self._seed, "session", str(self._run), str(self._begun))
        shown = self._shown(listener)
        heard = self._heard[listener]
        acts = session(self._catalogue, listener, shown, heard, rng)
        self.truth.record(self._catalogue, listener, shown, heard, acts)
        heard.update(act.episode_id for act in acts if act.kind == "play")
        return str(uuid.uuid5(self._namespace, f"session/{self._begun}")), listener, iter(acts)

    def _shown(self, listener: str) -> ShownList | None:
        if listener in self._lists:
            newest = self._lists.pop(listener)
            for _, record in self._wire.readable([newest], STAGE):
                self._lists[listener] = newest
                listed = [item["episode_id"] for item in record["items"][:LIST_LENGTH]]
                if listed:
                    return ShownList(RECOMMENDATIONS, listed, record["generation"])
        places = merge_scopes(self._trending.values())
        if places:
            return ShownList(TRENDING, [place["episode_id"] for place in places[:LIST_LENGTH]])
        pulls = self._catalogue.pulls()
        ids = self._catalogue.ids()
        return ShownList(
            TRENDING, [ids[row] for row in np.argsort(-pulls, kind="stable")[:LIST_LENGTH]]
        )

    def _event(self, session_id: str, listener: str, act: Act, now_ms: int) -> dict[str, Any]:
        self._sent += 1
        self.truth.events += 1
        played = act.kind in PLAYER_KINDS
        return {
            "event_id": str(uuid.uuid5(self._namespace, str(self._sent))),
            "user_id": listener,
            "episode_id": act.episode_id,
            "kind": act.kind,
            "occurred_at": now_ms,
            "heard_ms": act.heard_ms,
            "position_ms": act.position_ms,
            "session_id": session_id,
            "surface": act.surface,
            "rank": act.rank,
            "arm": None,
            "user_agent": user_agent(int(listener.rpartition("-")[2])),
            "generation": act.generation,
            "duration_ms": self._catalogue.duration_ms(act.episode_id) if played else None,
        }


def simulate(
    settings: Settings,
    graph: Graph,
    *,
    listeners: int = LISTENERS,
    rate: float = RATE,
    seed: int = SEED,
    seconds: float | None = None,
    stop: threading.Event | None = None,
    report: Callable[[str], None] = print,
) -> Truth:
    """Send ``rate`` events a second until ``stop`` is set or ``seconds`` have passed
    since the topics were read to their ends.

    While the disk has less than `DISK_RESERVE` left nobody does anything. ``report`` gets a line
    every ten seconds. Gives the truth about what was shown.
    """
    stage = graph.stages[STAGE]
    for topic in stage.broadcast:
        check_reads(stage, topic)
    (target,) = stage.produces
    check_writes(stage, target)
    wire = Wire(graph, open_registry(settings))
    crowd = Listeners(
        wire,
        count=listeners,
        seed=seed,
        run=time.time_ns(),
        concurrent=max(4, round(rate / EVENTS_PER_SESSION_S)),
    )
    stop = stop or threading.Event()
    arrived: SimpleQueue[list[Message]] = SimpleQueue()
    caught_up = threading.Event()
    bootstrap = settings.kafka_bootstrap_servers
    reader = BackgroundReader(bootstrap, stage.broadcast, arrived.put, caught_up.set)
    reader.start()
    out = producer(bootstrap)
    start = reported = paced = time.monotonic()
    due = 0.0
    looked, short = start - DISK_EVERY_S, None
    try:
        while not stop.wait(TICK_S) and (seconds is None or paced - start < seconds):
            for messages in _drain(arrived):
                crowd.apply(messages)
            now = time.monotonic()
            if not caught_up.is_set():
                start = paced = now
                continue
            if now - looked >= DISK_EVERY_S:
                looked, before, short = now, short, shortage(settings)
                if short is not None and before is None:
                    report(short)
            if short is not None:  # nobody is heard until there is room again
                paced = now
                continue
            # what was missed in a long pause is not made up for in a burst
            due = min(due + (now - paced) * rate, rate)
            paced = now
            while due >= 1.0 and (event := crowd.next_event(time.time_ns() // 1_000_000)):
                out.produce(target, wire.encode(target, event), event["user_id"])
                due -= 1.0
            out.poll(0)
            if now - reported >= REPORT_EVERY_S:
                report(crowd.truth.line())
                reported = now
    finally:
        reader.stop()
        reader.join(STOP_TIMEOUT_S)
        out.flush(STOP_TIMEOUT_S)
    return crowd.truth


def _drain(queue: SimpleQueue[list[Message]]) -> Iterator[list[Message]]:
    while True:
        try:
            yield queue.get_nowait()
        except Empty:
            return


def main() -> None:
    """Run with the defaults until SIGTERM or SIGINT."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with refusals_as_sentences():
        require_access(get_settings())
        serve(get_settings(), STAGE)
        truth = simulate(get_settings(), get_graph(), stop=stop)
    print(truth.line())
    print(truth.verdict())


if __name__ == "__main__":
    main()
