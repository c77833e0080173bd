"""Run the test tiers, those that wait for servers side by side: `python -m tests.tiers`.

The pure tiers come first, on every core, with the branches of the pure parts measured; if one of
their tests fails, or they take too few branches, nothing else starts. Then come the schedules of
simulated faults, then the tiers with servers, as many at once as there are cores, and at last what
needs the machine for itself: the whole platform.
The commit draws the seed of generated examples and what is taken of the long tests: a commit that
is tested again is tested alike. `--all` takes everything.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.drawing import EVERYTHING, commit
from tests.paths import ROOT

CORES = len(os.sched_getaffinity(0))
TELL_EVERY_S = 30.0
SUMMARY = re.compile(r"=* ?(\d+ [a-z]+|no tests ran)\b.* in [\d.]+s\b")


@dataclass(frozen=True)
class Tier:
    """Folders or files that one pytest runs; ``workers`` of its processes share them."""

    name: str
    paths: tuple[str, ...]
    workers: int = 1


PURE = (
    # One more than there are cores: some of the tests wait for a server on this machine.
    Tier(
        "pure",
        ("unit", "flow", "oracle", "quality", "docs", "chaos/test_ingestion_storm.py"),
        CORES + 1,
    ),
)
SIMULATED = (Tier("simulation", ("simulation",), CORES),)
SERVERS = (  # the longest first
    Tier("broker", ("broker",)),
    Tier("spark", ("spark",)),
    Tier(
        "kills",
        (
            "chaos/test_kill_points.py",
            "chaos/test_instance_kills.py",
            "chaos/test_snapshot.py",
            "chaos/test_ingestion_kills.py",
        ),
    ),
    Tier("secured", ("secured",)),
    Tier("browser", ("browser",)),
    Tier("scale", ("chaos/test_scale.py",)),
    Tier("mongo", ("mongo",)),
)
ALONE = (  # what has time limits of its own, which a busy machine would exceed
    Tier("smoke", ("smoke/test_platform.py",)),
    Tier("movielens", ("smoke/test_movielens.py",)),
)
PHASES = ((PURE, 1), (SIMULATED, 1), (SERVERS, CORES), (ALONE, 1))
"""Tiers of a phase, and how many of them run at once."""

SHORT_LIVED_JAVA = "-XX:TieredStopAtLevel=1"
"""A broker or a Spark that lives for a minute or two compiles its code better for longer than it
then runs it. What is computed is the same; the platform, which runs alone, has Java's default."""


@dataclass
class Run:
    """A tier that runs, or has run."""

    tier: Tier
    process: subprocess.Popen[bytes]
    output: Path
    started: float
    seconds: float = 0.0

    @property
    def summary(self) -> str:
        """What pytest says in the end, without its frame: processes may still log after it."""
        lines = self.output.read_text(errors="replace").strip().splitlines() or ["nothing"]
        return next(filter(SUMMARY.match, reversed(lines)), lines[-1]).strip("= ")


def unlisted() -> list[str]:
    """Files of tests that are not in exactly one tier."""
    listed = [ROOT / "tests" / path for tiers, _ in PHASES for tier in tiers for path in tier.paths]
    return [
        str(file.relative_to(ROOT))
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        if sum(file.is_relative_to(path) for path in listed) != 1
    ]


def start(tier: Tier, folder: Path, options: Sequence[str]) -> Run:
    """Start pytest on a tier, its output in a file."""
    command = [sys.executable, "-m", "pytest", *(f"tests/{path}" for path in tier.paths)]
    command += [f"--hypothesis-seed={int(commit()[:8], 16)}", "--durations=8", *options]
    if tier in PURE:
        command += ["--cov", "--cov-report="]
    if tier.workers > 1:
        command += ["-n", str(tier.workers), "--dist", "worksteal"]
    # The pure tier exports the model, for all of the instances that come later.
    environment = {**os.environ, "MODELS_ROOT": str(folder / "models")}
    if tier in SIMULATED:
        # Its frames have a few rows each: threads of polars would cost more than they do.
        environment["POLARS_MAX_THREADS"] = "1"
    if tier in SERVERS:
        environment["JDK_JAVA_OPTIONS"] = SHORT_LIVED_JAVA
    path = folder / f"{tier.name}.txt"
    with path.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    return Run(tier, process, path, time.monotonic())


def run_phase(
    tiers: Sequence[Tier], at_once: int, folder: Path, options: Sequence[str]
) -> list[Run]:
    """All of these tiers; what a tier printed is printed when it has ended."""
    waiting, running, ended = list(tiers), list[Run](), list[Run]()
    told = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                running.append(start(waiting.pop(0), folder, options))
                print(f"{running[-1].tier.name} begins", flush=True)
            for run in [run for run in running if run.process.poll() is not None]:
                running.remove(run)
                ended.append(run)
                run.seconds = time.monotonic() - run.started
                print(f"\n{run.tier.name}:\n{run.output.read_text(errors='replace')}", flush=True)
            if running and time.monotonic() - told > TELL_EVERY_S:
                told = time.monotonic()
                lives = (f"{run.tier.name} for {told - run.started:.0f} s" for run in running)
                print(f"  still at work: {', '.join(lives)}", flush=True)
            time.sleep(0.1)
    finally:
        for run in running:
            run.process.terminate()
            run.process.wait()
    return ended


def table(before: dict[str, float], runs: Sequence[Run], seconds: float) -> str:
    """What each part took."""
    rows = [(name, taken, "") for name, taken in before.items()]
    rows += [(run.tier.name, run.seconds, run.summary) for run in runs]
    rows.append(("all", seconds + sum(before.values()), f"on {CORES} cores"))
    return "\n".join(f"  {name:<12} {taken:6.0f} s  {said}" for name, taken, said in rows)


def branches() -> int:
    """Print which share of the branches of the pure parts the last run took; 1 if too few."""
    return subprocess.run([sys.executable, ROOT / ".ci" / "branches.py"], cwd=ROOT).returncode


def part(text: str) -> tuple[str, float]:
    """The name of a part and its seconds, of ``name=seconds``."""
    name, seconds = text.split("=")
    return name, float(seconds)


def main() -> int:
    """Run what was asked for; 1 if a test failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="take all of the long tests")
    parser.add_argument("--pure", action="store_true", help="only what needs no server but our own")
    parser.add_argument("--before", type=part, action="append", default=[], metavar="NAME=S")
    parser.add_argument("options", nargs="*", help="for pytest, after a --")
    chosen = parser.parse_args()
    if chosen.all:
        os.environ[EVERYTHING] = "1"
    if forgotten := unlisted():
        print(f"Give each of these one tier in {__file__}: {', '.join(forgotten)}")
        return 1
    runs: list[Run] = []
    failed: list[str] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="podstream-tests-") as folder:
        for tiers, at_once in PHASES[:2] if chosen.pure else PHASES:
            ran = run_phase(tiers, at_once, Path(folder), chosen.options)
            runs += ran
            failed += [run.tier.name for run in ran if run.process.returncode]
            # Options may choose among the tests: then nothing can be said of all branches.
            if tiers is PURE and not failed and not chosen.options and branches():
                failed.append("branches")
            if failed:
                break
        print(f"\nSeeds are drawn by {commit()}.")
        print(table(dict(chosen.before), runs, time.monotonic() - started))
        counts = re.findall(r"(\d+) passed", " ".join(run.summary for run in runs))
    if failed:
        print(f"failed: {', '.join(failed)}")
        return 1
    print(f"{sum(map(int, counts))} passed in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
