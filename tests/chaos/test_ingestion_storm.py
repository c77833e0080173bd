"""Ingestion through a storm: every episode of an index that misbehaves ends somewhere, once.

A run takes one storm of each kind, or all of them (`tests/drawing.py`). Nobody waits for what
stalls (`SkippingClock`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from streams.demo.demo_faults import STRANGER
from streams.demo.misbehaviour import Plan
from streams.kafka.message import Message
from streams.runtime.in_memory import MemoryRuntime
from tests.chaos.stormy_index import (
    TELLING,
    Outcome,
    StormyIndex,
    check_counts,
    check_same,
    ingestion_stages,
    newest_ids,
    outcome,
    waits,
)
from tests.clocks import SkippingClock
from tests.drawing import drawn
from topology.graph import STATE_SUFFIXES, build_graph
from topology.settings import Settings

pytestmark = [pytest.mark.timeout(300), pytest.mark.no_cover]
"""Measuring branches doubles the time, and chance is no test of a branch."""

GRAPH = build_graph(2)
STAGES = [stage.name for stage in ingestion_stages(GRAPH)]
SAYING = [
    topic
    for topic in GRAPH.topics.keys() - TELLING
    # A poll that finds nothing says so in its stage's state.
    if not topic.endswith(STATE_SUFFIXES)
]
"""The topics that get a record where something is new."""

STATUSES = {"ok", "none", "refused", "failed"}

STORMS = {"api": (1, 2, 3, 4), "feeds": (1, 2, 3, 4), "kills": (5, 6, 7, 8)}
"""The seeds of each kind of storm."""

QUIET_RUNS = 8
"""A discovery may fail at each of its requests, twice in a row: then it has found nothing yet."""


class Killed(BaseException):
    """The process is gone."""


class Flow:
    """Ingestion on the in-memory log; ``kills`` ends the process before so many more appends."""

    def __init__(
        self,
        settings: dict[str, Any],
        clock: SkippingClock,
        monkeypatch: pytest.MonkeyPatch,
        seed: int | None = None,
        kills: int = 0,
    ) -> None:
        self._clock = clock
        self._runtime = MemoryRuntime(GRAPH, Settings(**settings), clock=clock)
        self._chance = random.Random(seed)
        self._kills_left = kills
        self.kills = 0
        self._append = self._runtime.log.append
        monkeypatch.setattr(self._runtime.log, "append", self._maybe_killed)
        self._plan_kill()
        for stage in STAGES:
            self._runtime.start(stage)

    def _plan_kill(self) -> None:
        self._left = self._chance.randint(1, 80) if self._kills_left else -1

    def _maybe_killed(self, *args: Any, **kwargs: Any) -> Message:
        if self._left == 0:
            self._kills_left -= 1
            self.kills += 1
            self._plan_kill()
            raise Killed
        self._left -= 1
        return self._append(*args, **kwargs)

    def run(self) -> Outcome:
        """Run until nothing more comes, however often it is looked for."""
        quiet, before = 0, -1
        while quiet < QUIET_RUNS:
            try:
                self._runtime.run()
            except Killed:
                for stage in STAGES:
                    self._runtime.crash(stage, redeliver=self._chance.randint(0, 40))
            size = sum(len(self._runtime.log.records(topic)) for topic in SAYING)
            if size == before and not waits(self._runtime):
                quiet += 1
            else:
                quiet = 0
            # What waits for its time, such as the next discovery, gets some.
            self._clock.skip(0.25)
            before = size
        return outcome(GRAPH, self._runtime.log.records, self._runtime.log.wire.decode)


@pytest.fixture(autouse=True)
def _told(seed: int, record_property: Callable[[str, object], None]) -> None:
    record_property("storm", seed)


def storms(kind: str) -> pytest.MarkDecorator:
    """A test of each storm of a kind that this run takes."""
    return pytest.mark.parametrize("seed", drawn(f"storms of {kind}", STORMS[kind], 1))


def own_id(episode_id: str) -> str:
    """The index's own id of an episode for one that it may have made up."""
    number = int(episode_id.removeprefix("pi:"))
    return f"pi:{number - STRANGER if number > STRANGER else number}"


@storms("api")
def test_every_episode_of_the_api_ends_as_one_thing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = newest_ids(3)
    with StormyIndex(Plan(seed, 0.3, poisoned=poisoned), skipping=True) as index:
        found = Flow(index.settings, index.clock, monkeypatch).run()
        counts = index.counts()
        ids = index.episode_ids
    assert len(ids) > 200
    assert sum(counts["faults"].values()) > 100
    assert len(counts["faults"]) > 15
    # Ids that the index made up are dead as well; of its own each is one thing, and one only. An
    # episode that the index twice gave under the same made-up id goes by that one.
    episodes = [own_id(episode_id) for episode_id in found.episodes]
    assert ids - set(episodes) - found.dead.keys() == set()
    assert set(episodes) & found.dead.keys() == set()
    assert set(episodes) <= ids
    assert len(set(episodes)) == len(episodes)
    assert {f"pi:{number}" for number in poisoned} <= found.dead.keys()
    assert found.transcripts.keys() == found.episodes.keys()
    statuses = [record["status"] for record in found.transcripts.values()]
    assert set(statuses) <= STATUSES
    assert statuses.count("ok") > 0.65 * len(ids)
    assert {"failed", "refused"} <= set(statuses)
    # Nobody comes back before the time that a `Retry-After` named.
    assert counts["early"] == {}
    check_counts(counts, found, lives=1)


@storms("feeds")
def test_every_episode_of_the_feeds_ends_as_one_thing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows = 20
    with StormyIndex(Plan(seed, 0.3), shows, skipping=True) as index:
        found = Flow(index.feed_settings, index.clock, monkeypatch).run()
        counts = index.counts()
        ids = index.feed_episode_ids
    assert len(ids) > 100
    assert sum(counts["faults"].values()) > 50
    assert found.episodes.keys() | found.dead.keys() == ids
    assert found.episodes.keys() & found.dead.keys() == set()
    assert found.transcripts.keys() == found.episodes.keys()
    check_counts(counts, found, lives=1)


@storms("kills")
def test_kills_change_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shows = 14
    poisoned = newest_ids(2, shows)
    plan = Plan(seed, 0.3, in_a_row=1, misleading=False, poisoned=poisoned)
    outcomes, flows = [], []
    for kills in (0, 6):
        with StormyIndex(plan, shows, skipping=True) as index:
            flow = Flow(index.settings, index.clock, monkeypatch, seed, kills)
            found = flow.run()
            # Who is killed before a `Retry-After` is noted comes back not knowing of it.
            assert max(index.counts()["early"].values(), default=0) <= flow.kills
            check_counts(index.counts(), found, lives=1 + flow.kills)
            assert found.episodes.keys() | found.dead.keys() == index.episode_ids
            assert found.transcripts.keys() == found.episodes.keys()
            outcomes.append(found.at("the.index", index.host).without(f"pi:{n}" for n in poisoned))
            flows.append(flow)
    assert [flow.kills for flow in flows] == [0, 6]
    check_same(*outcomes)
