"""What simulated listeners like: latent tastes and the pull of episodes, drawn from hashes.

Every draw is a function of the seed and of a name, not of what was drawn before: categories and
episodes may arrive at any time and in any order without changing anybody's taste.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

CONCENTRATION = 0.3
"""Of the Dirichlet over categories: below 1, so that a listener likes few things much."""

POPULARITY_EXPONENT = 0.8
"""Of the power law of popularity: as in Zipf's law, a few episodes pull most listeners."""

LARGEST_PULL = 100.0
UNCATEGORISED = "uncategorised"


def name_rng(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and the names only."""
    text = "\x1f".join((str(seed), *names))
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def liking(seed: int, listener: str, category: str) -> float:
    """How much a listener likes a category: a gamma draw.

    The draws of a listener over any set of categories, divided by their sum, are a draw of the
    symmetric Dirichlet distribution over that set.
    """
    return float(name_rng(seed, "taste", listener, category).gamma(CONCENTRATION))


def pull(seed: int, episode_id: str) -> float:
    """The popularity of an episode, from 1 (ordinary) to LARGEST_PULL, by a power law."""
    uniform = 1.0 - name_rng(seed, "pull", episode_id).random()
    return float(min(uniform**-POPULARITY_EXPONENT, LARGEST_PULL))


class Catalogue:
    """The episodes that exist, and how they match listeners' tastes."""

    def __init__(self, seed: int):
        self._seed = seed
        self._categories: dict[str, int] = {}
        self._of_episode: dict[str, tuple[int, ...]] = {}
        self._duration_ms: dict[str, int] = {}
        self._likings: dict[str, list[float]] = {}
        self._pulls: list[float] = []
        self._ids: dict[str, int] = {}
        self._withdrawn: set[str] = set()
        self._incidence: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, episode_id: str) -> bool:
        return episode_id in self._ids and episode_id not in self._withdrawn

    def add(self, episode_id: str, categories: Iterable[str], duration_ms: int) -> None:
        """Add an episode, or say anew what it is."""
        names = sorted(set(categories)) or [UNCATEGORISED]
        numbers = tuple(self._categories.setdefault(n, len(self._categories)) for n in names)
        if episode_id not in self._ids:
            self._ids[episode_id] = len(self._ids)
            self._pulls.append(pull(self._seed, episode_id))
        if self._of_episode.get(episode_id) != numbers:
            self._of_episode[episode_id] = numbers
            self._incidence = None
        self._duration_ms[episode_id] = duration_ms
        self._withdrawn.discard(episode_id)

    def withdraw(self, episode_id: str) -> None:
        """An episode is gone: nobody is drawn to it until it is added again."""
        self._withdrawn.add(episode_id)

    def duration_ms(self, episode_id: str) -> int:
        """How long an episode is; KeyError for one that the catalogue lacks."""
        return self._duration_ms[episode_id]

    def ids(self) -> Sequence[str]:
        """Every episode there ever was, in the order of `matches` and `pulls`."""
        return list(self._ids)

    def index(self, episode_id: str) -> int:
        """The number of an episode, from 0 on; KeyError for one that the catalogue lacks."""
        return self._ids[episode_id]

    def pulls(self) -> NDArray[np.float64]:
        """Popularity of every episode, shape (episodes,); 0 of those that are gone."""
        pulls = np.array(self._pulls)
        pulls[[self._ids[name] for name in self._withdrawn if name in self._ids]] = 0.0
        return pulls

    def matches(self, listener: str) -> NDArray[np.float64]:
        """How well every episode matches a listener, shape (episodes,).

        The mean liking of the episode's categories, as a share of the listener's dearest one: 1 is
        all that a listener could wish for.
        """
        likings = self._likings.setdefault(listener, [])
        for name in list(self._categories)[len(likings) :]:
            likings.append(liking(self._seed, listener, name))
        if not likings:
            return np.zeros(0)
        shares = np.array(likings) / max(likings)
        if self._incidence is None or self._incidence.shape[1] != len(shares):
            self._incidence = np.zeros((len(self._ids), len(shares)))
            for episode_id, row in self._ids.items():
                numbers = list(self._of_episode[episode_id])
                self._incidence[row, numbers] = 1.0 / len(numbers)
        return self._incidence @ shares
