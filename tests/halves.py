"""Listeners in whose world the right answer is known."""

from __future__ import annotations

import numpy as np

from jobs.core.interactions import Interactions


def halves(users: int, each: int, items: int = 40, seed: int = 1) -> Interactions:
    """Even listeners hear even episodes, odd ones odd; what all hear most is in neither half."""
    random = np.random.default_rng(seed)
    cells = [
        (user, item)
        for user in range(users)
        for item in random.permutation(np.arange(user % 2, items, 2))[:each].tolist()
    ]
    user, item = np.array(sorted(cells), dtype=np.int32).T
    return Interactions(
        np.array([f"u{n:02}" for n in range(users)]),
        np.array([f"e{n:02}" for n in range(items)]),
        user,
        item,
        np.ones(len(user), dtype=np.float32),
        random.integers(0, 1_000, len(user)),
    )
