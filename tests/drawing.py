"""What a run takes of the long tests: drawn by the commit, so that over the commits all are run."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from functools import cache
from typing import TypeVar

from tests.paths import ROOT

T = TypeVar("T")

EVERYTHING = "PODSTREAM_TEST_ALL"
"""The environment's word for a run that takes everything."""


@cache
def commit() -> str:
    """The commit that is checked out, in hexadecimal digits; zeros where there is none."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else "0" * 40


def drawn(name: str, all_of_them: Sequence[T], number: int) -> list[T]:
    """So many of them, in their order; all of them where a run takes everything."""
    if os.environ.get(EVERYTHING):
        return list(all_of_them)
    chance = random.Random(f"{commit()} {name}")
    places = sorted(chance.sample(range(len(all_of_them)), number))
    return [all_of_them[place] for place in places]
