"""Generations as records tell of them: whole ones are served, bad ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.vectors import vector_bytes
from streams.recommendation.core.generations import Generations
from streams.recommendation.core.item_model import FEATURES, NO_EPISODE, TABLES, ItemModel
from streams.recommendation.core.items import Items
from streams.recommendation.core.model_records import neighbour_records, ranker_record
from streams.recommendation.core.ranker import Ranker

COUNT, RANK = 4, 2
IDS = [f"e:{n}" for n in range(COUNT)]


class Published:
    """The records of a generation, to be spoiled by a test."""

    def __init__(self, name: str, slot: int = 0):
        self.name = name
        self.factors: list[dict[str, Any]] = [
            {"episode_id": e, "generation": name, "vector": vector_bytes(np.array([1.0, n]))}
            for n, e in enumerate(IDS)
        ]
        neighbours = np.full((COUNT, 1), NO_EPISODE, dtype=np.int32)
        neighbours[0, 0] = 1
        weights = np.ones((COUNT, 1, len(TABLES)), dtype=np.float32)
        ones, at_ms = np.ones(COUNT, dtype=np.float32), np.ones(COUNT, dtype=np.int64)
        model = ItemModel(neighbours, weights, ones, ones, at_ms, at_ms, np.zeros(0, np.int64))
        self.neighbours: list[dict[str, Any]] = list(neighbour_records(model, IDS, name))
        wide, unit = np.ones(len(FEATURES), np.float32), np.ones(1, np.float32)
        hidden = np.ones((len(FEATURES) + 1, 1), np.float32)
        self.ranker: dict[str, Any] = ranker_record(Ranker(wide, wide, hidden, unit, unit), name)
        self.record: dict[str, Any] = {
            "generation": name, "model": "als", "items": COUNT, "rank": RANK, "alpha": 1.0,
            "regularization": 0.1, "neighbours": COUNT, "slot": slot,
        }  # fmt: skip

    def topics(self, to: Generations) -> list[list[Callable[[], None]]]:
        """What each topic has of it, in the order of the log; the last is its announcement."""
        slot = self.record["slot"]
        return [
            [partial(to.put_factors, record, slot) for record in self.factors],
            [partial(to.put_neighbours, record, slot) for record in self.neighbours],
            [partial(to.put_ranker, self.ranker, slot)],
            [partial(to.announce, self.record, 7)],
        ]

    def put(self, to: Generations) -> None:
        for topic in self.topics(to):
            for step in topic:
                step()


def served(items: Items) -> str:
    return items.factors.generation if items.factors is not None else ""


@pytest.fixture
def items() -> Items:
    made = Items()
    Published("g1").put(made.generations)
    assert made.activate()
    return made


def test_a_sound_generation_is_served_with_its_two_stages(items: Items) -> None:
    assert items.factors is not None
    assert items.factors.lists is not None
    assert items.generations.new_refusals() == []


def first_vector(value: bytes) -> Callable[[Published], None]:
    return lambda bad: bad.factors[0].update(vector=value)


def neighbour(**values: Any) -> Callable[[Published], None]:
    return lambda bad: bad.neighbours[0].update(values)


def declared(**values: Any) -> Callable[[Published], None]:
    return lambda bad: bad.record.update(values)


def one_more(bad: Published) -> None:
    bad.factors.append({**bad.factors[0], "episode_id": "e:more"})


def one_place_more(bad: Published) -> None:
    bad.neighbours.append({**bad.neighbours[0], "place": COUNT, "episode_id": "e:more"})


def same_place_twice(bad: Published) -> None:
    bad.neighbours[1]["place"] = bad.neighbours[0]["place"]


def broken_ranker(bad: Published) -> None:
    bad.ranker["bias"] = vector_bytes(np.array([np.nan]))


NAN = vector_bytes(np.array([np.nan]))
BAD = {
    "NaN": (first_vector(vector_bytes(np.array([1.0, np.nan]))), "not finite"),
    "infinity": (first_vector(vector_bytes(np.array([1.0, np.inf]))), "not finite"),
    "too large": (first_vector(vector_bytes(np.array([3e38, 1.0]))), "too large"),
    "another rank": (first_vector(vector_bytes(np.ones(3))), "a rank of 2 is declared"),
    "no numbers": (first_vector(b"abc"), "a rank of 2 is declared"),
    "declared rank": (declared(rank=3), "a rank of 3 is declared"),
    "no rank": (declared(rank=0), "a rank of 0 is declared"),
    "more items": (one_more, "factors of 5 items, where 4 are declared"),
    "fewer declared": (declared(items=3), "factors of 4 items, where 3 are declared"),
    "fewer places declared": (declared(neighbours=3), "neighbours of 4 items"),
    "more places": (one_place_more, "neighbours of 5 items"),
    "a place twice": (same_place_twice, "3 places of 4"),
    "beyond": (neighbour(neighbours=np.array([9], "<i4").tobytes()), "beyond the 4 places"),
    "neighbours": (neighbour(neighbours=b"abc"), "multiple"),
    "weights": (neighbour(weights=b"abcd"), "reshape"),
    "NaN weights": (neighbour(weights=NAN * len(TABLES)), "weights that are not finite"),
    "NaN liking": (neighbour(liking=float("nan")), "liking that are not finite"),
    "listeners": (neighbour(listeners=-1), "fewer listeners than none"),
    "ranker": (broken_ranker, "numbers in bias that are not finite"),
    "NaN alpha": (declared(alpha=float("nan")), "alpha"),
    "no regularisation": (declared(regularization=0.0), "regularisation"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_generation_is_refused_and_the_one_before_goes_on(items: Items, kind: str) -> None:
    spoil, because = BAD[kind]
    before = items.factors
    bad = Published("g2")
    spoil(bad)
    bad.put(items.generations)
    assert not items.activate()
    assert items.factors is before
    [refusal] = items.generations.new_refusals()
    assert refusal.generation == "g2"
    assert because in refusal.because
    assert refusal.to_record("recommend")["announced_at"].timestamp() == 0.007
    assert items.generations.new_refusals() == []
    bad.put(items.generations)  # the records come again, and change nothing
    assert not items.activate()
    assert items.generations.new_refusals() == []
    Published("g3").put(items.generations)
    assert items.activate()
    assert served(items) == "g3"


@given(st.randoms(use_true_random=False))
def test_topics_read_side_by_side_and_again_make_the_same_generation_serve(random: Any) -> None:
    items = Items()
    bad = Published("g3", slot=1)
    bad.factors[2]["vector"] = vector_bytes(np.array([np.nan, 0.0]))
    log = [Published("g0"), Published("g1"), Published("g2", slot=1), bad]
    for _ in range(2):
        topics: list[list[Callable[[], None]]] = [[], [], [], []]
        for one in log:
            for topic, more in zip(topics, one.topics(items.generations), strict=True):
                topic += more
        while left := [topic for topic in topics if topic]:
            random.choice(left).pop(0)()
            items.activate()
        assert served(items) == "g1"  # g2 has lost its slot: who starts later cannot read it


def test_a_worker_holds_no_more_than_a_compacted_topic(items: Items) -> None:
    """Of two in one slot the earlier one is gone, also where the topic still has its records."""
    earlier, later = Published("g2", slot=1), Published("g3", slot=1)
    for topic in (*earlier.topics(items.generations)[:3], *later.topics(items.generations)[:3]):
        for step in topic:
            step()
    items.generations.announce(earlier.record, 7)
    assert not items.activate()
    items.generations.announce(later.record, 8)
    assert items.activate()
    assert served(items) == "g3"


def test_what_is_never_announced_is_not_held_for_ever(items: Items) -> None:
    tried = [Published(f"h{number}") for number in range(100, 200)]
    for one in tried:
        items.generations.put_factors(one.factors.pop())
    for one in (tried[0], tried[-1]):
        one.put(items.generations)
        items.activate()
    assert served(items) == "h199"
    assert items.generations.new_refusals() == []
