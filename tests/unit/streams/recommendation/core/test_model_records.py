"""Neighbours and rankers survive the wire, and what does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from schemas.codec import from_plain, to_plain
from streams.recommendation.core.foldin import gram
from streams.recommendation.core.item_model import (
    FEATURES,
    NO_EPISODE,
    TABLES,
    Factors,
    ItemModel,
    most_heard,
)
from streams.recommendation.core.model_records import (
    ForeignRankerError,
    neighbour_records,
    ranker_record,
    read_model,
    read_ranker,
    slot_key,
    slot_of,
)
from streams.recommendation.core.ranker import Ranker

COUNT, KEPT, UNITS = 6, 3, 4
IDS = [f"e:{n}" for n in range(COUNT)]


def model() -> ItemModel:
    random = np.random.default_rng(2)
    neighbours = np.array(
        [random.permutation(np.delete(np.arange(COUNT), n))[:KEPT] for n in range(COUNT)]
    ).astype(np.int32)
    weights = random.normal(size=(COUNT, KEPT, len(TABLES))).astype(np.float32)
    neighbours[2, 1:], weights[2, 1:] = NO_EPISODE, 0.0
    neighbours[5], weights[5] = NO_EPISODE, 0.0
    listeners = np.array([3, 1, 2, 9, 4, 0], dtype=np.float32)
    at = np.array([5, 1_767_225_600_123, 7, -3, 9, 0], dtype=np.int64)
    vectors = random.normal(size=(COUNT, 2)).astype(np.float32)
    return ItemModel(
        neighbours,
        weights,
        listeners,
        random.random(COUNT).astype(np.float32),
        at,
        at + 77,
        most_heard(listeners),
        Factors(vectors, gram(vectors), 1.0, 0.1),
    )


def ranker() -> Ranker:
    random = np.random.default_rng(3)
    wide = len(FEATURES)
    shapes = ((wide,), (wide,), (wide + 1, UNITS), (UNITS,), (UNITS,))
    return Ranker(*(random.normal(size=shape).astype(np.float32) for shape in shapes))


def over_the_wire(schema: str, record: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = from_plain(schema, to_plain(schema, record))
    return found


def records() -> list[dict[str, Any]]:
    return [over_the_wire("item_neighbours", r) for r in neighbour_records(model(), IDS, "g")]


def test_a_model_is_what_it_was_in_whatever_order_its_records_come() -> None:
    before = model()
    assert before.factors is not None
    after = read_model(reversed(records()), COUNT, before.factors)
    for name in ("neighbours", "weights", "listeners", "liking", "first_at", "last_at", "popular"):
        assert np.array_equal(getattr(after, name), getattr(before, name)), name
    assert after.popular.tolist() == [3, 4, 0, 2, 1]


def test_a_ranker_is_what_it_was() -> None:
    after = read_ranker(over_the_wire("ranker", ranker_record(ranker(), "g")))
    for name, part in ranker()._asdict().items():
        assert np.array_equal(getattr(after, name), part), name


@pytest.mark.parametrize("name", ["features", "tables"])
def test_a_ranker_of_another_release_is_refused(name: str) -> None:
    record = ranker_record(ranker(), "g")
    record[name] = [*record[name][1:], "mood"]
    with pytest.raises(ForeignRankerError, match="mood"):
        read_ranker(record)


@pytest.mark.parametrize("name", Ranker._fields)
def test_a_ranker_with_too_few_numbers_is_refused(name: str) -> None:
    record = ranker_record(ranker(), "g")
    record[name] = record[name][4:]
    with pytest.raises(ValueError, match="a ranker of"):
        read_ranker(record)


@pytest.mark.parametrize("name", Ranker._fields)
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_ranker_that_diverged_is_refused(name: str, number: float) -> None:
    broken = ranker()
    getattr(broken, name).flat[0] = number
    with pytest.raises(ValueError, match=f"numbers in {name} that are not finite"):
        read_ranker(ranker_record(broken, "g"))


def test_neighbours_that_do_not_fit_are_refused() -> None:
    factors = model().factors
    assert factors is not None
    with pytest.raises(ValueError, match="5 places of 6"):
        read_model(records()[:-1], COUNT, factors)
    strange = records()
    strange[0]["neighbours"] = np.array([COUNT, 1, 2], "<i4").tobytes()
    with pytest.raises(ValueError, match="beyond the 6 places"):
        read_model(strange, COUNT, factors)
    short = records()
    short[0]["weights"] = short[0]["weights"][4:]
    with pytest.raises(ValueError, match="reshape"):
        read_model(short, COUNT, factors)


def test_a_key_says_its_slot_and_those_of_the_first_are_as_they_always_were() -> None:
    assert slot_key("my:1", 0) == "my:1"
    for episode_id in ("my:1", "my:1|2", "e"):
        keys = {slot_key(episode_id, slot): slot for slot in range(4)}
        assert {key: slot_of(key) for key in keys} == keys
    assert slot_of("my:1\x1fx") == 0  # somebody else's
