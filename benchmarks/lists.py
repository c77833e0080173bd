"""What a list costs as the catalogue grows: by the two stages, and blended.

    python benchmarks/lists.py --episodes 2000 20000 200000 > lists.json

Episodes with texts, factors and neighbours are drawn at random, and listeners with fifty episodes
each; lists are made by the functions of `recommend`, in groups of the size that it takes. The two
ways run in turns in one process, so that the machine is the same for both. JSON to stdout.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import machine
import numpy as np

from schemas.vectors import vector_bytes
from streams.recommendation.core.item_model import FEATURES, TABLES, Factors, ItemModel, most_heard
from streams.recommendation.core.items import Items
from streams.recommendation.core.listeners import ListenerState, ListeningTotals
from streams.recommendation.core.model_records import neighbour_records, ranker_record
from streams.recommendation.core.ranker import Ranker
from streams.recommendation.core.scoring import DEFAULT_WEIGHTS, Profile, profile, recommend
from streams.recommendation.core.two_stage import make_lists
from streams.recommendation.recommend import SLICE

RANK, DIMENSION, KEPT, UNITS = 64, 384, 100, 72
HISTORY, COUNT = 50, 50
ROUNDS = 5
GENERATION = "g"


def main() -> None:
    """Print lists a second by way and size of the catalogue."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--episodes", type=int, nargs="+", default=[2_000, 20_000, 200_000])
    sizes = parser.parse_args().episodes
    machine.report("lists", {"history": HISTORY, "episodes": {n: measure(n) for n in sizes}})


def measure(episodes: int) -> dict[str, float]:
    """Milliseconds a list, the best of some rounds of each way in turns."""
    random = np.random.default_rng(1)
    items = catalogue(episodes, random)
    profiles = [listener(items, episodes, random) for _ in range(SLICE)]
    ways: dict[str, Callable[[], Any]] = {
        "ranked": lambda: make_lists(items, profiles, DEFAULT_WEIGHTS, COUNT),
        "blended": lambda: recommend(items, profiles, DEFAULT_WEIGHTS, COUNT),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, make in ways.items():
            started = time.process_time()
            make()
            best[name] = min(best[name], time.process_time() - started)
    return {f"{name}_cpu_ms_a_list": round(1000 * s / SLICE, 3) for name, s in best.items()}


def catalogue(episodes: int, random: np.random.Generator) -> Items:
    """Episodes with everything, from the records that `recommend` reads."""
    ids = [f"e:{n:07}" for n in range(episodes)]
    items = Items()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    vectors = random.normal(size=(episodes, RANK)).astype(np.float32)
    texts = random.normal(size=(episodes, DIMENSION)).astype(np.float32)
    for number, episode_id in enumerate(ids):
        record = {"episode_id": episode_id, "title": "T", "show_title": "S", "categories": ()}
        items.put_episode({**record, "published_at": at})
        items.put_embedding(
            {"episode_id": episode_id, "model": "m", "vector": vector_bytes(texts[number])}
        )
        vector = vector_bytes(vectors[number])
        items.generations.put_factors(
            {"episode_id": episode_id, "generation": GENERATION, "vector": vector}
        )
    listeners = random.integers(1, 500, episodes).astype(np.float32)
    times = np.zeros(episodes, dtype=np.int64)
    model = ItemModel(
        random.integers(0, episodes, (episodes, KEPT)).astype(np.int32),
        random.random((episodes, KEPT, len(TABLES))).astype(np.float32),
        listeners,
        np.ones(episodes, dtype=np.float32),
        times,
        times,
        most_heard(listeners),
        Factors(vectors, np.eye(RANK), 20.0, 0.15),
    )
    for record in neighbour_records(model, ids, GENERATION):
        items.generations.put_neighbours(record)
    wide = len(FEATURES)
    shapes = ((wide,), (wide,), (wide + 1, UNITS), (UNITS,), (UNITS,))
    ranker = Ranker(*(random.normal(size=shape).astype(np.float32) for shape in shapes))
    items.generations.put_ranker(ranker_record(ranker, GENERATION))
    announced = {"generation": GENERATION, "model": "als", "items": episodes, "rank": RANK}
    announced |= {"alpha": 20.0, "regularization": 0.15, "neighbours": episodes}
    items.generations.announce(announced, 0)
    if not items.activate() or items.factors is None or items.factors.lists is None:
        raise ValueError("the generation is not whole")
    return items


def listener(items: Items, episodes: int, random: np.random.Generator) -> Profile:
    """Somebody who heard fifty episodes."""
    chosen = random.choice(episodes, HISTORY, replace=False).tolist()
    heard = {
        f"e:{n:07}": ListeningTotals(heard_ms=1_200_000, plays=1, last_at=place)
        for place, n in enumerate(chosen)
    }
    return profile(replace(ListenerState(), episodes=heard), items)


if __name__ == "__main__":
    main()
