"""Shows a schedule by its seed: `python -m tests.simulation SEED`, or tries many: `0:1000`."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.schedule import draw
from tests.simulation.simulation import Simulation
from tests.simulation.trial import attempt, report
from tests.simulation.verdict import Verdict


def main() -> int:
    """Exit status 1 where a schedule failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", help="a seed, or FIRST:END")
    first, _, end = parser.parse_args().seeds.partition(":")
    if not end:
        schedule = draw(int(first))
        print(schedule)
        failure = attempt(schedule)
        if failure is None:
            simulation = Simulation(schedule)
            simulation.run()
            Verdict(simulation).check()
            print(simulation.told, "all is as it should be", sep="\n")
            return 0
        print(failure.story, report(failure), sep="\n")
        return 1
    failed = [failure for seed in range(int(first), int(end)) if (failure := attempt(draw(seed)))]
    for failure in failed:
        print(f"seed {failure.schedule.seed}: {failure.error!r}")
    print(f"{len(failed)} of {int(end) - int(first)} schedules failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
