"""The world of a simulation: its time, its chance, and the processes that live and die in it.

Nothing here waits. What is to happen lies in a heap, by the virtual time at which it is due; the
world takes it out, one after another, until nothing is left to do. Whoever needs chance has a
stream of his own, seeded by the schedule and his name: taking one fault out of a schedule leaves
the chance of the others as it was.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import NoReturn

MOST_EVENTS = 400_000
"""A schedule that has not come to rest after so many never will."""


class Killed(BaseException):
    """The process is gone, in the middle of whatever it did."""


class NeverAtRest(AssertionError):
    """The processes of a schedule go on for ever, although nobody writes any more."""


class World:
    """Virtual time in seconds, and what is due when."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.steps: Counter[str] = Counter()
        """How often each slot has come to a place where it may be killed, in all of its lives."""
        self.kills: dict[str, set[int]] = {}
        """At which of these places it is."""
        self.running: Process | None = None
        self.story: list[tuple[float, str]] = []
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._turn = count()
        self._chances: dict[str, random.Random] = {}

    def chance(self, name: str) -> random.Random:
        """The stream of chance of this name."""
        if name not in self._chances:
            self._chances[name] = random.Random(f"{self.seed} {name}")
        return self._chances[name]

    def delay(self, name: str) -> float:
        """How long something takes on its way: mostly milliseconds, now and then seconds."""
        chance = self.chance(name)
        draw = chance.random()
        if draw < 0.75:
            return chance.uniform(0.0005, 0.005)
        return chance.uniform(0.005, 0.1) if draw < 0.96 else chance.uniform(0.1, 2.5)

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Let something happen in so many seconds."""
        heapq.heappush(self._due, (self.now + seconds, next(self._turn), action))

    def tell(self, text: str) -> None:
        """Add a line to the story of the schedule."""
        self.story.append((self.now, text))

    @property
    def story_s(self) -> float:
        """When something worth telling happened last."""
        return self.story[-1][0] if self.story else 0.0

    def run(self, until: Callable[[], bool], longest_s: float) -> None:
        """Let time pass until a condition holds. NeverAtRest if it does not in time."""
        ends = self.now + longest_s
        for _ in range(MOST_EVENTS):
            if until():
                return
            if not self._due or self._due[0][0] > ends:
                break
            self._step()
        raise NeverAtRest(f"not at rest after {longest_s:.0f} s")

    def run_until(self, ends: float) -> None:
        """Let time pass until then."""
        while self._due and self._due[0][0] <= ends:
            self._step()
        self.now = ends

    def _step(self) -> None:
        self.now, _, action = heapq.heappop(self._due)
        action()


class Process:
    """What can be killed. ``slot`` is its place in the deployment, which others take after it."""

    def __init__(self, world: World, slot: str) -> None:
        self.world = world
        self.slot = slot
        self.alive = True
        self.frozen_until = 0.0
        self.at_death: list[Callable[[], None]] = []
        """What the rest of the world does when it is gone."""
        self.at_end: Callable[[BaseException | None], None] = lambda _: None
        """Told when it ends by itself, and of what."""

    def is_killed_here(self) -> bool:
        """Count one more place at which it may be killed; whether it is, and then it is gone."""
        self.world.steps[self.slot] += 1
        number = self.world.steps[self.slot]
        if number in self.world.kills.get(self.slot, ()):
            self.world.tell(f"{self.slot} is killed at its step {number}")
            self.die()
        return not self.alive

    def die(self) -> None:
        """As by kill -9."""
        if self.alive:
            self.alive = False
            for act in self.at_death:
                act()

    def end(self, error: BaseException | None) -> NoReturn:
        """As `end_process`: it says why, and is gone. Raises Killed."""
        self.world.tell(f"{self.slot} ends: {error!r}")
        self.die()
        self.at_end(error)
        raise Killed

    def freeze(self, seconds: float) -> None:
        """As by SIGSTOP, and SIGCONT after so long."""
        self.frozen_until = self.world.now + seconds
