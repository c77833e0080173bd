"""Tries a schedule, and makes one that fails as small as it still fails."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.simulation.schedule import Schedule, draw
from tests.simulation.simulation import Simulation
from tests.simulation.verdict import Verdict

MOST_TRIALS = 150
"""Of a schedule that is made smaller."""


@dataclass(frozen=True)
class Failure:
    """What went wrong in a schedule."""

    schedule: Schedule
    error: BaseException
    story: str

    def __str__(self) -> str:
        told = "".join(traceback.format_exception(self.error, limit=-6))
        return f"{self.schedule}\n{self.story}\n{told}"

    def is_like(self, other: Failure) -> bool:
        return type(self.error) is type(other.error)


def attempt(schedule: Schedule) -> Failure | None:
    """Let a schedule happen; what went wrong, if anything did."""
    logging.disable(logging.CRITICAL)
    simulation = Simulation(schedule)
    try:
        simulation.run()
        Verdict(simulation).check()
    except Exception as error:
        return Failure(schedule, error, simulation.told)
    finally:
        logging.disable(logging.NOTSET)
    return None


def first_failure(seeds: Iterable[int]) -> Failure | None:
    """The first failure among the schedules of some seeds, in their order."""
    return next((failure for seed in seeds if (failure := attempt(draw(seed)))), None)


def shrink(failure: Failure) -> Failure:
    """The same failure with fewer faults and events, as far as that was found."""
    trials = 0
    smaller = True
    while smaller:
        smaller = False
        for schedule in _smaller(failure.schedule):
            trials += 1
            found = attempt(schedule)
            if found is not None and found.is_like(failure):
                failure, smaller = found, True
                break
            if trials >= MOST_TRIALS:
                return failure
    return failure


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    """Schedules without a fault, or without some of the events, many at first."""
    for number in range(len(schedule.faults)):
        yield schedule.without_fault(number)
    for number in range(len(schedule.forgets)):
        yield schedule.without_forget(number)
    size = len(schedule.steps) // 2
    while size:
        for start in range(0, len(schedule.steps), size):
            yield schedule.without_steps(start, start + size)
        size //= 2


def report(failure: Failure) -> str:
    """The smallest schedule found that fails as this one does, and how to see it again."""
    seed = failure.schedule.seed
    return f"`python -m tests.simulation {seed}` shows all of it; made smaller:\n{shrink(failure)}"
