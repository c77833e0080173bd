"""Plays of which some are far more than usual: what anomalies are found in.

An episode is heard now and then for an hour, which makes a history; then by many at once. Now and
then only one partition is heard of for days, and the other one, which is idle meanwhile, may have
something to say afterwards of what has long been judged.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

SIDES = (("anna", "bert"), ("carl", "dora"))
"""The listeners, by partition: those of the second one first."""

EPISODES = ("pi:100", "pi:104")
"""One in each partition of `engagement-windows`."""

USUAL_S = ((3600, 600), (1800, 1800, 300), (1500, 1500, 1500), (3600, 60), (3000, 3900))
"""Gaps between the plays of an hour and more, none of them too long to say something."""

DAY_S = 86_400
BACK_AFTER_S = 60
MOST = 3
"""Plays at once that are nothing unusual."""


@dataclass(frozen=True)
class Play:
    """Somebody plays an episode; ``error_s``: how far from the wall's time."""

    user: str
    episode: str
    error_s: int = 0


@dataclass(frozen=True)
class Group:
    """Plays that come together, so long after those before."""

    after_s: int
    plays: tuple[Play, ...]


def plays(chance: random.Random) -> list[Group]:
    """The groups of a schedule."""
    every = SIDES[0] + SIDES[1]
    alone, idle = chance.sample(SIDES, 2)
    heard = chance.choice((every, every, alone))
    found = _hour_and_rush(chance, heard)
    if chance.random() < 0.75:
        found += _days(chance, alone)
        if chance.random() < 0.5:
            found += _hour_and_rush(chance, alone)
            found += _days(chance, alone)
        if chance.random() < 0.85:
            found.append(_back(chance, idle, found))
    if chance.random() < 0.3:
        found += _hour_and_rush(chance, every)
    return found


def _hour_and_rush(chance: random.Random, users: Sequence[str]) -> list[Group]:
    episode = chance.choice(EPISODES)
    found = [
        Group(after_s, tuple(_some(chance, users, episode, chance.choice((1, 1, 2, MOST)))))
        for after_s in (chance.choice((0, 60, 700)), *chance.choice(USUAL_S))
    ]
    rush = _some(chance, users, episode, chance.randint(12, 16))
    cut = chance.randrange(len(rush) + 1)
    found.append(Group(chance.choice((0, 300, 900)), tuple(rush[:cut])))
    found.append(Group(chance.choice((0, 0, 1, 60)), tuple(rush[cut:])))
    for _ in range(chance.choice((1, 2))):
        after_s = chance.choice((300, 901, 1800, 4200))
        found.append(Group(after_s, tuple(_some(chance, users, chance.choice(EPISODES), 1))))
    return found


def _some(chance: random.Random, users: Sequence[str], episode: str, number: int) -> list[Play]:
    errors_s = (0, 0, 0, 0, 0, -1, -60, -240)
    return [Play(chance.choice(users), episode, chance.choice(errors_s)) for _ in range(number)]


def _days(chance: random.Random, users: Sequence[str]) -> list[Group]:
    """Only these listeners are heard of, for hours or days."""
    gap_s = chance.choice((DAY_S // 4, DAY_S // 2, DAY_S // 2, DAY_S, DAY_S + 3600, 2 * DAY_S))
    gaps_s = (gap_s, 300, 3600)
    return [
        Group(after_s, tuple(_some(chance, users, chance.choice(EPISODES), 1)))
        for after_s in gaps_s[: chance.choice((2, 3, 3))]
    ]


def _back(chance: random.Random, users: Sequence[str], before: Sequence[Group]) -> Group:
    """Who was not heard of is again: of what happens now, or of the last rush, long over."""
    times_s = list(accumulate(group.after_s for group in before))
    rush_s = max(t for t, group in zip(times_s, before, strict=True) if len(group.plays) > MOST)
    then_s = rush_s - times_s[-1] - BACK_AFTER_S
    error_s = chance.choice((0, then_s, then_s, then_s - 600))
    number = chance.choice((1, 2, 12))
    episode = chance.choice(EPISODES)
    returned = tuple(Play(chance.choice(users), episode, error_s) for _ in range(number))
    return Group(BACK_AFTER_S, returned)
