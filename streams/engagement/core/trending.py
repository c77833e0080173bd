"""Trending: who is being discovered now, and how unusual that is for the episode.

The score of an episode is the sum over the minutes b of the last six hours of

    new_listeners(b) · 2^(-(at - b) / 30 min)

where ``at`` is the newest minute seen. A listener is new to an episode who has not heard it in the
24 hours before: one listener thus lifts an episode once a day, however often a player is told to
play. Half an hour halves a score; what is older than six hours has faded to 1/4096 and is left
out. The reason why an episode is there: ``recent``, its new listeners of the last hour, against
``usual``, those of an average hour among the 23 before, as ``rise`` = (recent + 1) / (usual + 1).

The rankings of different partitions have different ``at``; since all of them fade alike, a reader
brings them to the newest one by a factor (`merge_scopes`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from streams.engagement.core.trending_state import HALF_LIFE_MINUTES, TrendingState
from streams.state.hash_table import Array
from streams.state.interner import StringInterner

PLACES = 50
TOLD_AT_ONCE = 100
ALL = "all"
_CATEGORY, _LANGUAGE, _AND = "category:", "language:", "|"
_ESCAPES = re.compile("%(?=25|7C)")
_DIGITS = 6

_FIGURES = np.dtype(
    [("episode", "i8"), ("score", "f8"), ("plays", "i8"), ("recent", "i8"), ("usual", "f8")]
)

TrendingPlace = dict[str, Any]
"""`episode_id`, `score`, `plays`, `recent`, `usual` and `rise`."""


def category_scope(category: str) -> str:
    """The scope of one category."""
    return f"{_CATEGORY}{_escaped(category)}"


def language_scope(language: str) -> str:
    """The scope of one language."""
    return f"{_LANGUAGE}{_escaped(language)}"


def both_scope(category: str, language: str) -> str:
    """The scope of a category and a language at once."""
    return f"{category_scope(category)}{_AND}{language_scope(language)}"


def category_of(scope: str) -> str | None:
    """The category whose scope it is; None for any other scope."""
    return _name_in(scope, _CATEGORY)


def language_of(scope: str) -> str | None:
    """The language whose scope it is; None for any other scope."""
    return _name_in(scope, _LANGUAGE)


def is_of_a_language(scope: str) -> bool:
    """Whether a scope holds the episodes of one language only."""
    return scope.startswith(_LANGUAGE) or _AND in scope


def _escaped(name: str) -> str:
    """A name in which nothing stands for what is between two of them; most are as they were."""
    return _ESCAPES.sub("%25", name).replace(_AND, "%7C")


def _name_in(scope: str, prefix: str) -> str | None:
    if not scope.startswith(prefix) or _AND in scope:
        return None
    return scope.removeprefix(prefix).replace("%7C", _AND).replace("%25", "%")


class TrendingScopes:
    """Which scopes each episode is in: all, its categories, its language, and both at once."""

    def __init__(self) -> None:
        self.names = StringInterner()
        self.version = 0
        """Counts the changes."""
        self.narrow: set[int] = set()
        """The numbers of the scopes that are of a category and a language at once."""
        self._everything = self._numbers([ALL])
        self._of: dict[str, tuple[int, ...]] = {}

    def put(self, episode_id: str, categories: Sequence[str], language: str) -> None:
        """Take over what is known of an episode; ``language`` is empty if unknown."""
        wide = [ALL, *map(category_scope, dict.fromkeys(categories))]
        both: tuple[int, ...] = ()
        if language:
            wide.append(language_scope(language))
            both = self._numbers(both_scope(name, language) for name in dict.fromkeys(categories))
            self.narrow.update(both)
        numbers = self._numbers(wide) + both
        if self._of.get(episode_id) != numbers:
            self._of[episode_id] = numbers
            self.version += 1

    def drop(self, episode_id: str) -> None:
        """Take a withdrawn episode out of every scope; one never put is still in that of all."""
        if self._of.get(episode_id) != ():
            self._of[episode_id] = ()
            self.version += 1

    def members(self, episode_ids: Sequence[str]) -> Members:
        """The scopes of episodes, which are numbered as they are here."""
        scopes = [self._of.get(episode_id, self._everything) for episode_id in episode_ids]
        sizes = [len(numbers) for numbers in scopes]
        alphabetical = np.empty(len(episode_ids), np.int64)
        alphabetical[np.argsort(np.array(episode_ids, object))] = np.arange(len(episode_ids))
        return Members(
            scopes=np.fromiter((n for numbers in scopes for n in numbers), np.int64, sum(sizes)),
            episodes=np.repeat(np.arange(len(episode_ids)), sizes),
            alphabetical=alphabetical,
        )

    def _numbers(self, scopes: Iterable[str]) -> tuple[int, ...]:
        return tuple(self.names.codes(list(scopes)).tolist())


@dataclass(frozen=True, slots=True)
class Members:
    """Pairs of a scope's and an episode's number, and the place of each episode by its id."""

    scopes: Array
    episodes: Array
    alphabetical: Array


def best(scores: Array, members: Members) -> tuple[Array, Array]:
    """The scope and the episode of every place, scope by scope, best first.

    ``scores`` has one number an episode; an episode without a score has no place. Equal scores
    are in the order of the ids.
    """
    order = np.lexsort((members.alphabetical, -scores))
    rank = np.empty(len(scores), np.int64)
    rank[order] = np.arange(len(scores))
    scored = scores[members.episodes] > 0
    scopes, episodes = members.scopes[scored], members.episodes[scored]
    chosen = np.argsort(scopes * len(scores) + rank[episodes])
    scopes, episodes = scopes[chosen], episodes[chosen]
    starts = np.searchsorted(scopes, scopes, side="left")
    top = np.arange(len(scopes)) - starts < PLACES
    return scopes[top], episodes[top]


class Board:
    """The rankings of one partition, and what was told of them.

    There may be hundreds of scopes, and the busier it is, the more of them change each time. No
    more than TOLD_AT_ONCE are told at a time, those that have waited longest; those of a category
    and a language at once after the others.

    A ranking that is published stays until another one replaces it, so `TrendingState.published`
    has the scopes of all of them, for the time after a restart. It is saved with the next rows
    only. What was published since the last ones can be told from the state as it was restored,
    which is why a board wants to see it before rows are added.
    """

    def __init__(self, scopes: TrendingScopes, restored: TrendingState):
        self.state = restored
        self._scopes = scopes
        self._told: dict[int, bytes] = {}
        self._pending = False
        self._looked: tuple[int, int] | None = None
        self._members: Members | None = None
        self._members_of: tuple[int, int, int] | None = None
        restored.published |= {scopes.names[scope] for scope in self._rankings()}

    def changes(self) -> list[tuple[str, list[TrendingPlace]]]:
        """Scopes whose ranking is another one now; an empty one has lost its last place."""
        state = self.state
        now = (state.applied, self._scopes.version)
        if now == self._looked and not self._pending:
            return []
        self._looked = now
        rankings = self._rankings()
        ranked = {self._scopes.names[scope] for scope in rankings}
        emptied = sorted(state.published - ranked)
        self._told = {scope: told for scope, told in self._told.items() if scope in rankings}
        due = self._due(rankings)
        for scope in due:
            self._told.pop(scope, None)
            self._told[scope] = rankings[scope].tobytes()
        named = {self._scopes.names[scope] for scope in due}
        state.published = frozenset(state.published & ranked | named)
        return [
            *((scope, []) for scope in emptied),
            *((self._scopes.names[scope], _places(rankings[scope], state.names)) for scope in due),
        ]

    def _due(self, rankings: Mapping[int, Array]) -> list[int]:
        """Those of the changed rankings whose turn it is."""
        waiting = {scope: turn for turn, scope in enumerate(self._told)}
        changed = [
            scope
            for scope, ranking in rankings.items()
            if ranking.tobytes() != self._told.get(scope)
        ]
        self._pending = len(changed) > TOLD_AT_ONCE
        narrow = self._scopes.narrow
        changed.sort(key=lambda scope: (scope in narrow, waiting.get(scope, -1)))
        return changed[:TOLD_AT_ONCE]

    def _rankings(self) -> dict[int, Array]:
        """The places of every scope that has any."""
        totals = self.state.totals()
        scores = totals.scores.round(_DIGITS)
        scopes, episodes = best(scores, self._members_now())
        places = np.empty(len(episodes), _FIGURES)
        places["episode"], places["score"] = episodes, scores[episodes]
        places["plays"], places["recent"] = totals.plays[episodes], totals.recent[episodes]
        places["usual"] = totals.usual[episodes].round(_DIGITS)
        numbers, starts = np.unique(scopes, return_index=True)
        ends = np.append(starts, len(places))[1:]
        return {
            scope: places[first:end]
            for scope, first, end in zip(numbers.tolist(), starts, ends, strict=True)
        }

    def _members_now(self) -> Members:
        state = self.state
        now = (len(state.names), state.renumbered, self._scopes.version)
        if self._members is None or now != self._members_of:
            self._members = self._scopes.members(state.names.all())
            self._members_of = now
        return self._members


def _places(ranking: Array, names: StringInterner) -> list[TrendingPlace]:
    return [
        {
            "episode_id": names[episode],
            "score": score,
            "plays": plays,
            "recent": recent,
            "usual": usual,
            "rise": rise(recent, usual),
        }
        for episode, score, plays, recent, usual in ranking.tolist()
    ]


def rise(recent: int, usual: float) -> float:
    """How much more the last hour brought than an average hour of the day before."""
    return round((recent + 1) / (usual + 1), _DIGITS)


def merge_scopes(records: Iterable[Mapping[str, Any]]) -> list[TrendingPlace]:
    """One ranking, best first, of the newest record that each partition has for a scope.

    Every record is a `trending` as decoded; the scores are those of the newest `at` among them.
    """
    newest_of: dict[int, Mapping[str, Any]] = {}
    for record in records:
        known = newest_of.get(record["source_partition"])
        if known is None or record["at"] >= known["at"]:
            newest_of[record["source_partition"]] = record
    if not newest_of:
        return []
    at = max(record["at"] for record in newest_of.values())
    merged: dict[str, TrendingPlace] = {}
    for place, score in _faded(newest_of.values(), at):
        known = merged.get(place["episode_id"], _NOTHING)
        recent, usual = place.get("recent", 0), place.get("usual", 0.0)
        merged[place["episode_id"]] = {
            "episode_id": place["episode_id"],
            "score": known["score"] + score,
            "plays": known["plays"] + place["plays"],
            "recent": known["recent"] + recent,
            "usual": known["usual"] + usual,
            "rise": rise(known["recent"] + recent, known["usual"] + usual),
        }
    return sorted(merged.values(), key=lambda place: (-place["score"], place["episode_id"]))


_NOTHING: TrendingPlace = {"score": 0.0, "plays": 0, "recent": 0, "usual": 0.0}


def _faded(
    records: Iterable[Mapping[str, Any]], at: datetime
) -> Iterator[tuple[TrendingPlace, float]]:
    half_life = timedelta(minutes=HALF_LIFE_MINUTES)
    for record in records:
        fade = 0.5 ** ((at - record["at"]) / half_life)
        for place in record["episodes"]:
            yield place, place["score"] * fade
