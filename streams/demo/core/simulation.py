"""What simulated listeners do in a session, and how good what they were shown was.

Listening time is compressed: a listener hears half an hour in the moments that the events of it
take to send. ``heard_ms`` is exact within an episode, but larger than the time between events.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streams.demo.core.taste import Catalogue

LISTS_JUDGED = 200
LIST_LENGTH = 10
"""How much of a list is shown."""

SEARCH_SHARE = 0.2
"""Share of sessions in which the listener looks for something without being shown anything."""

FEWEST_SKIPPED_MS, MOST_SKIPPED_MS = 10_000, 90_000
"""What is jumped over at once, forward; back it is at most a third of that."""
SKIPS_OF_BORED = 0.25
"""Chance of a jump forward at each report of one whose taste is not met at all; it falls with the
square of what is missing. One report in fifty comes before such a jump whatever the taste, over an
advertisement, and one in fifty before a jump back."""
SKIPS_ALWAYS = 0.02

PROGRESS_MS = 30_000
MOST_PROGRESS_EVENTS = 12
"""A player reports every 30 s, in long episodes a twelfth of the length."""

MOST_PLAYS = 3
KEEP_GOING = 0.5
POSITION_BIAS = 0.6
"""The place at rank r is looked at with probability r ** -POSITION_BIAS."""

RECOMMENDATIONS, TRENDING, SEARCH = "recommendations", "trending", "search"

USER_AGENTS = (
    "AppleCoreMedia/1.0.0.21F90 (iPhone; U; CPU OS 17_5_1 like Mac OS X; en_us)",
    "Spotify/8.9.42 Android/34 (Pixel 8)",
    "Overcast/3.0 (+http://overcast.fm/; iOS podcast app)",
    "Pocket Casts",
    "AntennaPod/3.4.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0",
)
CRAWLERS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "PocketCasts/1.0 (Pocket Casts Feed Parser; +http://pocketcasts.com/)",
)
CRAWLER_EVERY = 40
"""One listener in so many is a crawler, so that one can see that crawlers are not counted."""

PLAYER_KINDS = ("play", "progress", "pause", "complete", "skip")
"""What a player tells, which knows how long the episode is."""


def user_agent(listener: int) -> str:
    """The agent of the listener with this number, from 1 on."""
    turn, rest = divmod(listener, CRAWLER_EVERY)
    return USER_AGENTS[listener % len(USER_AGENTS)] if rest else CRAWLERS[turn % len(CRAWLERS)]


@dataclass(frozen=True, slots=True)
class ShownList:
    """A list that a listener is shown, best first."""

    surface: str
    episode_ids: Sequence[str]
    generation: str | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a listener does: a `user_event` without who, when and its id."""

    kind: str
    episode_id: str
    surface: str
    heard_ms: int = 0
    position_ms: int = 0
    rank: int | None = None
    generation: str | None = None


def session(
    catalogue: Catalogue,
    listener: str,
    shown: ShownList | None,
    heard: set[str],
    rng: np.random.Generator,
) -> list[Act]:
    """What ``listener`` does in one session, in order, with the list ``shown`` or in a search.

    ``heard`` are the episodes that the listener played before: in a search they do not come up
    again. Nothing is done with episodes that the catalogue does not know.
    """
    if len(catalogue) == 0:
        return []
    matches = catalogue.matches(listener)
    if shown is None or rng.random() < SEARCH_SHARE:
        return list(_search(catalogue, matches, heard, rng))
    return list(_browse(catalogue, matches, shown, rng))


def _search(
    catalogue: Catalogue,
    matches: NDArray[np.float64],
    heard: set[str],
    rng: np.random.Generator,
) -> Iterator[Act]:
    weights = (0.02 + matches**2) * catalogue.pulls()
    weights[[catalogue.index(episode) for episode in heard if episode in catalogue]] = 0.0
    if weights.sum() == 0.0:
        return
    chosen = rng.choice(len(weights), p=weights / weights.sum())
    yield from _listen(
        catalogue, catalogue.ids()[chosen], float(matches[chosen]), SEARCH, None, None, rng
    )


def _browse(
    catalogue: Catalogue, matches: NDArray[np.float64], shown: ShownList, rng: np.random.Generator
) -> Iterator[Act]:
    listed = [
        (rank, episode)
        for rank, episode in enumerate(shown.episode_ids[:LIST_LENGTH], 1)
        if episode in catalogue
    ]
    for rank, episode in listed:
        yield Act("impression", episode, shown.surface, rank=rank, generation=shown.generation)
    plays = 0
    pulls = catalogue.pulls()
    for rank, episode in listed:
        match = float(matches[catalogue.index(episode)])
        looked_at = rng.random() < rank**-POSITION_BIAS
        # a hit seems worth a try even to whom its subject is nothing
        tempting = 0.02 + 0.6 * match**1.5 + 0.05 * np.log10(pulls[catalogue.index(episode)])
        if not looked_at or rng.random() >= tempting:
            continue
        yield Act("click", episode, shown.surface, rank=rank, generation=shown.generation)
        if rng.random() >= 0.4 + 0.6 * match:
            continue
        yield from _listen(catalogue, episode, match, shown.surface, rank, shown.generation, rng)
        plays += 1
        if plays == MOST_PLAYS or rng.random() >= KEEP_GOING:
            return


def _listen(
    catalogue: Catalogue,
    episode: str,
    match: float,
    surface: str,
    rank: int | None,
    generation: str | None,
    rng: np.random.Generator,
) -> Iterator[Act]:
    def act(kind: str, heard_ms: int = 0, position_ms: int = 0) -> Act:
        return Act(kind, episode, surface, heard_ms, position_ms, rank, generation)

    duration = catalogue.duration_ms(episode)
    finishes = rng.random() < 0.1 + 0.7 * match
    share = 1.0 if finishes else rng.beta(1.0, 4.0 - 3.0 * match)
    end = duration if finishes else int(duration * share)
    step = max(PROGRESS_MS, duration // MOST_PROGRESS_EVENTS)
    yield act("play")
    # Its own generator: whether somebody jumps changes nothing of what else is done by chance.
    (skips,) = rng.spawn(1)
    position = 0
    while position + step < end:
        position += step
        yield act("progress", step, position)
        jump = _jump(match, step, skips)
        if jump and 0 < position + jump < end:
            position += jump
            yield act("skip", position_ms=position)
    yield act("complete" if finishes else "pause", end - position, end)
    opinion = rng.random()
    if match > 0.6 and opinion < 0.2:
        yield act("like", position_ms=end)
    elif match < 0.2 and opinion < 0.1:
        yield act("dislike", position_ms=end)


def _jump(match: float, step: int, rng: np.random.Generator) -> int:
    """How far a listener jumps after a report, in milliseconds, back if negative; mostly 0."""
    chance, length = rng.random(), float(rng.random())
    forward = SKIPS_ALWAYS + SKIPS_OF_BORED * (1.0 - match) ** 2
    if chance < forward:
        return FEWEST_SKIPPED_MS + int(length * (MOST_SKIPPED_MS - FEWEST_SKIPPED_MS))
    if chance < forward + SKIPS_ALWAYS:
        # Less than a step, or there would be no end to it.
        return -max(FEWEST_SKIPPED_MS, int(length * min(MOST_SKIPPED_MS, step) / 3))
    return 0


@dataclass
class Truth:
    """How good the newest lists were, told by who knows the tastes.

    The match of a list is the mean match of the places shown. ``best`` is that of the best list
    that could have been shown instead, ``random`` what a blind choice would have had. Matches are
    means over the last `LISTS_JUDGED` lists, so that learning shows. ``events`` is for the sender
    to count.
    """

    events: int = 0
    plays: Counter[str] = field(default_factory=Counter)
    _match_played: float = 0.0
    _lists: deque[tuple[float, float, float]] = field(
        default_factory=lambda: deque(maxlen=LISTS_JUDGED)
    )

    def record(
        self,
        catalogue: Catalogue,
        listener: str,
        shown: ShownList | None,
        heard: set[str],
        acts: Sequence[Act],
    ) -> None:
        """Take account of one session; ``heard`` as it was before it."""
        if not acts:
            return
        matches = catalogue.matches(listener)
        for act in acts:
            if act.kind == "play":
                self.plays[act.surface] += 1
                if act.surface == RECOMMENDATIONS:
                    self._match_played += matches[catalogue.index(act.episode_id)]
        if shown is None or acts[0].surface != RECOMMENDATIONS:
            return
        listed = [a.episode_id for a in acts if a.kind == "impression"]
        unheard = catalogue.pulls() > 0
        unheard[[catalogue.index(episode) for episode in heard if episode in catalogue]] = False
        possible = np.sort(matches[unheard])
        self._lists.append(
            (
                float(matches[[catalogue.index(e) for e in listed]].mean()),
                float(possible[-len(listed) :].mean()) if possible.size else 0.0,
                float(possible.mean()) if possible.size else 0.0,
            )
        )

    def figures(self) -> dict[str, float]:
        """Means so far; matches and regret from 0 to 1, NaN before the first list."""
        if self._lists:
            listed, best, random = np.mean(self._lists, axis=0).tolist()
        else:
            listed = best = random = np.nan
        return {
            "events": self.events,
            "plays": self.plays.total(),
            "share_recommended": self.plays[RECOMMENDATIONS] / (self.plays.total() or np.nan),
            "match_played": self._match_played / (self.plays[RECOMMENDATIONS] or np.nan),
            "match_listed": listed,
            "best": best,
            "random": random,
            "regret": best - listed,
        }

    def line(self) -> str:
        """The figures in one line."""
        f = self.figures()
        start = f"{self.events} events, {self.plays.total()} plays"
        if not self._lists:
            return f"{start}, no recommendations seen yet"
        return (
            f"{start}, {f['share_recommended']:.0%} from recommendations; taste match of lists "
            f"{f['match_listed']:.2f} (played {f['match_played']:.2f}), best possible "
            f"{f['best']:.2f}, random {f['random']:.2f}, regret {f['regret']:.2f}"
        )

    def verdict(self) -> str:
        """What the figures mean, in one sentence."""
        if not self._lists:
            return "No recommendations were seen: nothing can be said about them."
        f = self.figures()
        gap = f["best"] - f["random"]
        gained = (f["match_listed"] - f["random"]) / gap if gap > 0 else 0.0
        judged = (
            "better than"
            if gained > 0.05
            else "about as good as"
            if gained > -0.05
            else "worse than"
        )
        return (
            f"Recommendations are {judged} a random choice: they reach {gained:.0%} of the way "
            f"from random to the best possible lists."
        )
