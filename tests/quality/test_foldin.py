"""Checkerboard, after `implicit`'s tests: even listeners hear even episodes, odd ones odd."""

from typing import Any

import numpy as np
import pytest

from streams.recommendation.core.items import Items
from streams.recommendation.core.listeners import ListenerState, ListeningTotals
from streams.recommendation.core.scoring import ScoreParts, profile, recommend

SIZE, RANK, ALPHA, REGULARIZATION = 40, 8, 20.0, 0.05


def factors_of(heard: Any, iterations: int = 10) -> Any:
    """Item factors of implicit ALS on a 0/1 matrix (listeners, episodes)."""
    items = np.random.default_rng(3).normal(size=(heard.shape[1], RANK)) / RANK

    def half_step(fixed: Any, rows: Any) -> Any:
        identity = np.eye(RANK)
        return np.array(
            [
                np.linalg.solve(
                    fixed.T @ fixed
                    + ALPHA * (fixed.T * row) @ fixed
                    + REGULARIZATION * row.sum() * identity,
                    (1 + ALPHA) * fixed.T @ row,
                )
                for row in rows
            ]
        )

    for _ in range(iterations):
        users = half_step(items, heard)
        items = half_step(users, heard.T)
    return items.astype("<f4")


@pytest.fixture(scope="module")
def items() -> Any:
    random = np.random.default_rng(1)
    same_colour = np.add.outer(np.arange(SIZE), np.arange(SIZE)) % 2 == 0
    heard = (same_colour & (random.random((SIZE, SIZE)) < 0.6)).astype(float)
    made = Items()
    for number, vector in enumerate(factors_of(heard)):
        made.put_episode(
            {
                "episode_id": f"e:{number:02}",
                "title": str(number),
                "show_title": "",
                "categories": [],
                "published_at": None,
            }
        )
        made.generations.put_factors(
            {"episode_id": f"e:{number:02}", "generation": "g", "vector": vector.tobytes()}
        )
    announced = {"generation": "g", "model": "als", "items": SIZE, "rank": RANK}
    made.generations.announce({**announced, "alpha": ALPHA, "regularization": REGULARIZATION}, 0)
    assert made.activate()
    return made


@pytest.mark.parametrize("colour", [0, 1])
def test_a_listener_whom_training_never_saw_gets_the_right_half(items: Any, colour: Any) -> None:
    played = range(colour, 12, 2)
    listener = ListenerState(
        0, "x", "", {f"e:{n:02}": ListeningTotals(heard_ms=600_000, plays=1) for n in played}
    )
    (ranking,) = recommend(items, [profile(listener, items)], ScoreParts(1.0, 0.0, 0.0), 10)
    right = [int(items.ids[place.row][2:]) % 2 == colour for place in ranking]
    assert right == [True] * 10
