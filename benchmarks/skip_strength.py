"""What the strength of a pair gains if skips count in it, in worlds of simulated listeners.

    python benchmarks/skip_strength.py --worlds 8

In each world listeners browse lists and search; the last fifth of each one's pairs is held out, ALS
with 16 factors learns the others, once for each way of weighing, and ranks all episodes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from jobs.core.evaluation import evaluate
from jobs.core.interactions import Interactions, from_totals, time_split
from streams.demo.core.simulation import TRENDING, ShownList, session
from streams.demo.core.taste import Catalogue, name_rng

LISTENERS, EPISODES, CATEGORIES, SESSIONS = 200, 800, 20, 24
FACTORS, ALPHA, REGULARIZATION, ROUNDS = 16, 20.0, 0.05, 10
LISTED = 10
EVENT_MS = 1_000

Floats = NDArray[np.float64]
Weigh = Callable[[Floats, Floats], Floats]

WAYS: dict[str, Weigh] = {
    "not at all": lambda strength, skips: strength,
    "less 0.25 log2(1 + skips)": lambda s, n: np.maximum(s - 0.25 * np.log2(1 + n), 0.05),
    "less 0.5 log2(1 + skips)": lambda s, n: np.maximum(s - 0.5 * np.log2(1 + n), 0.05),
    "times 0.9 each": lambda strength, skips: strength * 0.9**skips,
    "times 0.7 each": lambda strength, skips: strength * 0.7**skips,
    "times 0.5 each": lambda strength, skips: strength * 0.5**skips,
}
"""How positive strengths are changed by the number of skips of the pair."""


@dataclass(frozen=True)
class World:
    """The pairs of a world, how often each was skipped in, and what each listener likes."""

    pairs: Interactions
    skips: Floats
    matches: Floats
    """One row a listener, one column an episode, as in ``pairs``."""


def simulate(seed: int) -> World:
    """What listeners of a world do, added up by pair."""
    catalogue = Catalogue(seed)
    random = np.random.default_rng(seed)
    for number in range(EPISODES):
        length_ms = int(random.uniform(10, 70) * 60_000)
        catalogue.add(f"e{number:03}", [f"c{number % CATEGORIES}"], length_ms)
    share = catalogue.pulls() / catalogue.pulls().sum()
    rows = []
    for user in (f"u{number:03}" for number in range(LISTENERS)):
        heard: set[str] = set()
        for place in range(SESSIONS):
            rng = name_rng(seed, "session", user, str(place))
            listed = rng.choice(catalogue.ids(), LISTED, replace=False, p=share)
            acts = session(catalogue, user, ShownList(TRENDING, listed.tolist()), heard, rng)
            heard.update(act.episode_id for act in acts if act.kind == "play")
            at = place * 3_600_000
            rows += [
                (user, a.episode_id, a.kind, a.heard_ms, at + n * EVENT_MS)
                for n, a in enumerate(acts)
            ]
    columns = ["user_id", "episode_id", "kind", "heard_ms", "at"]
    kinds = {"plays": "play", "completes": "complete", "likes": "like", "dislikes": "dislike"}
    totals = (
        pl.DataFrame(rows, schema=columns, orient="row")
        .group_by("user_id", "episode_id")
        .agg(
            pl.col("heard_ms").sum(),
            pl.col("at").max().cast(pl.Datetime("ms", "UTC")).alias("last_at"),
            *((pl.col("kind") == kind).sum().alias(name) for name, kind in kinds.items()),
            (pl.col("kind") == "skip").sum().alias("skips"),
        )
    )
    pairs = from_totals(totals)
    told = totals.select("user_id", "episode_id", "skips").iter_rows()
    counted = {(user, item): skips for user, item, skips in told}
    named = zip(pairs.users[pairs.user], pairs.items[pairs.item], strict=True)
    order = [catalogue.index(str(item)) for item in pairs.items]
    return World(
        pairs,
        np.array([counted[str(user), str(item)] for user, item in named], np.float64),
        np.array([catalogue.matches(str(user))[order] for user in pairs.users]),
    )


def learn(pairs: Interactions, strength: Floats) -> Floats:
    """The scores of all episodes for all listeners, by the equations of `confidence`."""
    users, items = len(pairs.users), len(pairs.items)
    of_items = np.random.default_rng(0).normal(0.0, 0.1, (items, FACTORS))
    of_users = np.zeros((users, FACTORS))
    for _ in range(ROUNDS):
        of_users = _solve(of_items, pairs.user, pairs.item, strength, users)
        of_items = _solve(of_users, pairs.item, pairs.user, strength, items)
    scores: Floats = of_users @ of_items.T
    return scores


def _solve(
    fixed: Floats,
    wanted: NDArray[np.int32],
    others: NDArray[np.int32],
    strength: Floats,
    count: int,
) -> Floats:
    gram, found = fixed.T @ fixed, np.zeros((count, FACTORS))
    for number in range(count):
        rows = np.flatnonzero(wanted == number)
        rated, said = fixed[others[rows]], strength[rows]
        liked = said > 0
        if liked.any():
            left = gram + ALPHA * (rated * np.abs(said)[:, None]).T @ rated
            left += REGULARIZATION * liked.sum() * np.eye(FACTORS)
            right = (rated[liked] * (1 + ALPHA * said[liked])[:, None]).sum(axis=0)
            found[number] = np.linalg.solve(left, right)
    return found


def judge(world: World, weigh: Weigh) -> tuple[float, float]:
    """nDCG@10 on what was held out, and the mean taste match of the lists."""
    said = world.pairs.strength.astype(np.float64)
    places = world.pairs.user.astype(np.int64) * len(world.pairs.items) + world.pairs.item
    train, test = time_split(world.pairs)
    weighed = np.where(said > 0, weigh(said, world.skips), said)
    known = train.user.astype(np.int64) * len(train.items) + train.item
    scores = learn(train, weighed[np.searchsorted(places, known)])
    figures = evaluate(lambda listeners: scores[listeners], train, test)
    unheard = scores.copy()
    unheard[train.user, train.item] = -np.inf
    best = np.argsort(-unheard, axis=1, kind="stable")[:, :LISTED]
    match = np.take_along_axis(world.matches, best, axis=1).mean()
    return figures["ndcg_at_10"], float(match)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=8)
    worlds = [simulate(seed) for seed in range(parser.parse_args().worlds)]
    plain = np.array([judge(world, WAYS["not at all"]) for world in worlds])
    print(f"{'skips count':28}{'nDCG@10':>8}{'gain':>18}{'match':>8}{'gain':>18}")
    for name, weigh in WAYS.items():
        found = np.array([judge(world, weigh) for world in worlds])
        gain = found - plain
        error = gain.std(axis=0) / np.sqrt(max(len(worlds) - 1, 1))
        figures = "".join(
            f"{found[:, n].mean():8.4f}{gain[:, n].mean():+9.4f} ± {error[n]:.4f}" for n in (0, 1)
        )
        print(f"{name:28}{figures}")


if __name__ == "__main__":
    main()
