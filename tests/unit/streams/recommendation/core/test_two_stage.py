"""Lists by the two stages on items placed by hand: who gets one, and what is in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from schemas.vectors import vector_bytes
from streams.recommendation.core.item_model import FEATURES, NO_EPISODE, TABLES, ItemModel
from streams.recommendation.core.items import Items
from streams.recommendation.core.listeners import ListenerState, ListeningTotals
from streams.recommendation.core.model_records import neighbour_records, ranker_record
from streams.recommendation.core.ranker import Ranker
from streams.recommendation.core.reasons import explain
from streams.recommendation.core.scoring import (
    DEFAULT_WEIGHTS,
    Profile,
    Ranked,
    ScoreParts,
    profile,
    recommend,
)
from streams.recommendation.core.two_stage import history_of, make_lists, rank, ranked_weights
from streams.recommendation.core.vectors import Vectors

KNOWN, ALL = 8, 12
"""Episodes that the generation knows, of all; each is a neighbour of the next two."""

ONE_UNIT = 1


def ranker() -> Ranker:
    """Takes the sums of `ease`, and nothing else."""
    wide = len(FEATURES)
    linear = np.zeros(wide, dtype=np.float32)
    linear[FEATURES.index("ease")] = 1.0
    nothing = np.zeros(ONE_UNIT, dtype=np.float32)
    hidden = np.zeros((wide + 1, ONE_UNIT), dtype=np.float32)
    return Ranker(linear, np.zeros(wide, dtype=np.float32), hidden, nothing, nothing)


def publish(items: Items, name: str = "g1") -> None:
    neighbours = np.full((KNOWN, 2), NO_EPISODE, dtype=np.int32)
    weights = np.zeros((KNOWN, 2, len(TABLES)), dtype=np.float32)
    for place in range(KNOWN):
        for step in (1, 2):
            if place + step < KNOWN:
                neighbours[place, step - 1] = place + step
                weights[place, step - 1] = 1.0 / step
    ones, at_ms = np.ones(KNOWN, dtype=np.float32), np.ones(KNOWN, dtype=np.int64)
    model = ItemModel(neighbours, weights, ones, ones, at_ms, at_ms, np.zeros(0, np.int64))
    ids = [f"e:{n:02}" for n in range(KNOWN)]
    for record in neighbour_records(model, ids, name):
        items.generations.put_neighbours(record)
    items.generations.put_ranker(ranker_record(ranker(), name))
    for episode_id in ids:
        factors = {"episode_id": episode_id, "generation": name}
        items.generations.put_factors({**factors, "vector": vector_bytes(np.ones(2))})
    announced: dict[str, Any] = {"generation": name, "model": "als", "items": KNOWN, "rank": 2}
    announced |= {"alpha": 1.0, "regularization": 0.1, "neighbours": KNOWN}
    items.generations.announce(announced, 5)


@pytest.fixture
def items() -> Items:
    made = Items()
    for number in range(ALL):
        record = {
            "episode_id": f"e:{number:02}", "title": f"T {number}", "show_title": "S",
            "categories": (), "published_at": datetime(2026, 1, 1 + number, tzinfo=UTC),
        }  # fmt: skip
        made.put_episode(record)
    publish(made)
    assert made.activate()
    return made


def heard(items: Items, *numbers: int, **totals: int) -> Profile:
    """Somebody who heard these, one after the other."""
    told = {
        f"e:{n:02}": ListeningTotals(**{"heard_ms": 1_200_000, **totals, "last_at": at})
        for at, n in enumerate(numbers)
    }
    return profile(ListenerState(0, "x", "", told), items)


def numbers(items: Items, ranking: list[Ranked] | None) -> list[int]:
    assert ranking is not None
    return [int(items.ids[place.row][2:]) for place in ranking]


def test_the_order_is_the_rankers_and_the_rest_of_the_list_the_newest(items: Items) -> None:
    made = rank(items, heard(items, 2, 3), DEFAULT_WEIGHTS, 50)
    # 4 is next to both, 5 to one of them; nothing speaks for the others, which go by their dates
    assert numbers(items, made) == [4, 5, 11, 10, 9, 8, 7, 6, 1, 0]
    assert made is not None
    assert [place.parts.ranked for place in made[:2]] == pytest.approx([1.0, 1 / 3])
    assert [place.parts.ranked for place in made[2:]] == [None] * 4 + [0.0] * 4
    assert made[0].score == made[0].earned.ranked == 1.0
    assert all(place.score == 0.0 for place in made[2:])


def test_the_reason_of_a_ranked_place_names_whose_listeners_heard_it(items: Items) -> None:
    who = ListenerState(0, "x", "", {})
    one = heard(items, 2, 3)
    made = rank(items, one, DEFAULT_WEIGHTS, 50)
    assert made is not None
    # 4 is beside both, beside 3 more often; nobody who heard 6 heard one of them
    assert explain(items, who, one, made[:2]) == ["Heard by listeners of “T 3”"] * 2
    (six,) = [place for place in made if items.ids[place.row] == "e:06"]
    assert explain(items, who, one, [six]) == ["New"]


def test_a_list_is_as_long_as_asked(items: Items) -> None:
    for count in (1, 2, 4, 10):
        made = rank(items, heard(items, 2, 3), DEFAULT_WEIGHTS, count)
        assert len(numbers(items, made)) == count


def test_what_rises_counts_by_how_much_its_category_is_heard(items: Items) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for number, category in ((2, "Nature"), (3, "Nature"), (9, "Music"), (11, "Nature")):
        record = {"episode_id": f"e:{number:02}", "title": "T", "show_title": "S"}
        items.put_episode({**record, "categories": [category], "published_at": at})
    items.set_trending(
        {
            "all": [("e:10", 2.0)],
            "category:Nature": [("e:11", 4.0), ("e:10", 1.0)],
            "category:Music": [("e:09", 4.0)],
        }
    )
    made = rank(items, heard(items, 2, 3), ScoreParts(0.25, 0.3, 0.45), 50)
    assert made is not None
    rising = {items.ids[place.row]: place.parts.trending for place in made}
    assert (rising["e:10"], rising["e:11"], rising["e:09"]) == (1.0, 1.0, 0.0)
    assert numbers(items, made)[:3] == [4, 10, 11]
    assert made[1].earned.trending == pytest.approx(1 / 3)


def test_who_heard_all_that_the_generation_knows_gets_the_newest(items: Items) -> None:
    everything = heard(items, *range(KNOWN))
    assert numbers(items, rank(items, everything, DEFAULT_WEIGHTS, 3)) == [11, 10, 9]


def test_a_text_that_none_of_the_generation_can_be_compared_with_earns_nothing(
    items: Items,
) -> None:
    for number in (9, 10):
        record = {"episode_id": f"e:{number:02}", "model": "m", "vector": vector_bytes(np.ones(2))}
        items.put_embedding(record)
    made = rank(items, heard(items, 2, 9), DEFAULT_WEIGHTS, 50)
    assert made is not None
    (ten,) = [place for place in made if items.ids[place.row] == "e:10"]
    assert (ten.parts.content, ten.parts.ranked, ten.score) == (1.0, None, 0.0)


def test_who_heard_nothing_that_the_generation_knows_gets_a_blended_list(items: Items) -> None:
    items.set_trending({"all": [("e:06", 2.0)]})
    strangers = [heard(items), heard(items, 9), heard(items, 2, heard_ms=0, likes=-1)]
    for one in strangers:
        assert rank(items, one, DEFAULT_WEIGHTS, 5) is None
    mixed = [strangers[0], heard(items, 2, 3), strangers[1]]
    first, second, third = make_lists(items, mixed, DEFAULT_WEIGHTS, 5)
    assert [first, third] == recommend(items, strangers[:2], DEFAULT_WEIGHTS, 5)
    assert second == rank(items, mixed[1], DEFAULT_WEIGHTS, 5)


def test_a_history_has_what_the_generation_knows_oldest_first(items: Items) -> None:
    assert items.factors is not None
    assert items.factors.lists is not None
    found = history_of(items.factors.lists, heard(items, 5, 9, 3, 1))
    assert found.items.tolist() == [5, 3, 1]
    assert found.at.tolist() == [0, 2, 3]


def test_withdrawn_episodes_and_those_of_no_record_are_in_no_list(items: Items) -> None:
    items.drop_episode("e:04")
    assert 4 not in numbers(items, rank(items, heard(items, 2, 3), DEFAULT_WEIGHTS, 50))
    assert items.withheld.tolist() == [4]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (DEFAULT_WEIGHTS, (0.0, 0.0, 0.0, 1.0)),
        (ScoreParts(0.8, 0.1, 0.1), (0.0, 0.0, 0.0, 1.0)),
        (ScoreParts(0.5, 0.5, 0.0), (0.0, 1 / 6, 0.0, 5 / 6)),
        (ScoreParts(0.25, 0.3, 0.45), (0.0, 0.0, 1 / 3, 2 / 3)),
        (ScoreParts(0.0, 0.0, 1.0), (0.0, 0.0, 1.0, 0.0)),
    ],
)
def test_only_what_was_learned_beyond_the_usual_counts_beside_the_ranker(
    weights: ScoreParts, expected: tuple[float, ...]
) -> None:
    assert ranked_weights(weights) == pytest.approx(expected)


def test_a_newer_generation_without_a_ranker_blends_again(items: Items) -> None:
    for number in range(KNOWN):
        factors = {"episode_id": f"e:{number:02}", "generation": "g2"}
        items.generations.put_factors({**factors, "vector": vector_bytes(np.ones(2))})
    record = {"generation": "g2", "model": "als", "items": KNOWN, "rank": 2, "alpha": 1.0}
    items.generations.announce(
        {**record, "regularization": 0.1, "unranked_because": "too little"}, 6
    )
    assert items.activate()
    assert items.factors is not None
    assert items.factors.unranked_because == "too little"
    assert rank(items, heard(items, 2, 3), DEFAULT_WEIGHTS, 5) is None


def test_records_of_older_generations_change_nothing_and_few_are_kept(items: Items) -> None:
    before = items.factors
    publish(items, "g0")
    assert not items.activate()
    assert items.factors is before
    for number in range(2, 9):  # none of them is announced
        factors = {"episode_id": "e:00", "generation": f"g{number}"}
        items.generations.put_factors({**factors, "vector": vector_bytes(np.ones(2))})
    publish(items, "g9")
    assert items.activate()
    assert items.factors is not None
    assert items.factors.generation == "g9"


def test_a_vector_of_another_length_is_refused_and_one_that_is_not_there_is_gone() -> None:
    vectors = Vectors(2)
    with pytest.raises(ValueError, match="expected 2 components"):
        vectors.put(0, np.ones(3, dtype=np.float32))
    vectors.drop(5)
    assert vectors.count == 0


def test_episodes_that_came_after_the_generation_are_new_until_the_next(items: Items) -> None:
    assert sorted(items.newest_unknown.tolist()) == list(range(KNOWN, ALL))
    assert items.newest_unknown.tolist() == [11, 10, 9, 8]
