"""Scores, their parts, and the best of them, on items placed by hand."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from streams.recommendation.core.items import Items
from streams.recommendation.core.listeners import ListenerState, ListeningTotals
from streams.recommendation.core.scoring import (
    DEFAULT_WEIGHTS,
    Ranked,
    ScoreParts,
    mean_weights,
    profile,
    recommend,
)

CATEGORIES = ("History", "Science")


def vector(*values: float) -> bytes:
    return np.array(values, dtype="<f4").tobytes()


def episode(number: int, category: str = "History", day: int = 1) -> dict[str, Any]:
    return {
        "episode_id": f"e:{number}",
        "title": f"Title {number}",
        "show_title": "Show",
        "categories": [category],
        "published_at": datetime(2026, 1, day, tzinfo=UTC),
    }


def embed(items: Items, number: int, *values: float) -> None:
    record = {"episode_id": f"e:{number}", "model": "m", "vector": vector(*values)}
    items.put_embedding(record)


def generation(items: Items, vectors: Mapping[str, tuple[float, ...]], name: str = "g1") -> bool:
    """Announce factors by episode; whether they became the active ones."""
    for episode_id, values in vectors.items():
        record = {"episode_id": episode_id, "generation": name}
        items.generations.put_factors({**record, "vector": vector(*values)})
    announced = {"generation": name, "model": "als", "items": len(vectors), "rank": 2}
    items.generations.announce({**announced, "alpha": 20.0, "regularization": 0.05}, 77)
    return items.activate()


def heard(*numbers: int, **totals: int) -> ListenerState:
    totals = {"heard_ms": 1_200_000, "plays": 1, **totals}
    return ListenerState(0, "x", "", {f"e:{n}": ListeningTotals(**totals) for n in numbers})


@pytest.fixture
def items() -> Items:
    """Six episodes: 0, 1, 2 are History along the first axis; 3, 4, 5 Science along the second."""
    made = Items()
    for number in range(6):
        made.put_episode(episode(number, CATEGORIES[number // 3]))
        axis = (1.0, 0.1 * number) if number < 3 else (0.1 * number, 1.0)
        embed(made, number, *(np.array(axis) / np.linalg.norm(axis)))
    return made


def listing(
    items: Items, listener: ListenerState, weights: ScoreParts = DEFAULT_WEIGHTS, count: int = 10
) -> tuple[list[str], list[Ranked]]:
    (ranking,) = recommend(items, [profile(listener, items)], weights, count)
    return [items.ids[place.row] for place in ranking], ranking


def test_what_was_heard_or_disliked_is_not_in_the_list(items: Items) -> None:
    listener = ListenerState(
        0, "x", "", {"e:0": ListeningTotals(plays=1), "e:4": ListeningTotals(likes=-1)}
    )
    assert set(listing(items, listener)[0]) == {"e:1", "e:2", "e:3", "e:5"}


def test_content_puts_the_near_before_the_far(items: Items) -> None:
    ids, ranking = listing(items, heard(0))
    assert ids[:2] == ["e:1", "e:2"]
    assert ranking[0].parts.content == pytest.approx(1.0)
    assert ranking[0].parts.als == 0.0


def test_scores_and_parts_lie_between_0_and_1_best_first(items: Items) -> None:
    generation(items, {f"e:{n}": ((1, 0) if n < 3 else (0, 1)) for n in range(6)})
    items.set_trending({"all": [("e:5", 9.0), ("e:2", 3.0)]})
    _, ranking = listing(items, heard(0, 1))
    scores = [place.score for place in ranking]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= value <= 1 for place in ranking for value in (place.score, *place.parts[:3]))
    assert {place.parts.ranked for place in ranking} == {None}
    for place in ranking:
        assert sum(place.earned) == pytest.approx(place.score, abs=1e-5)


def test_with_all_parts_the_score_is_the_weighted_mean(items: Items) -> None:
    generation(items, {f"e:{n}": ((1, 0.1) if n < 3 else (0.1, 1)) for n in range(6)})
    items.set_trending({"all": [("e:5", 9.0), ("e:2", 3.0)]})
    weights = ScoreParts(0.6, 0.3, 0.1)
    for place in listing(items, heard(0), weights)[1]:
        expected = np.dot(place.parts[:3], weights)
        assert place.score == pytest.approx(expected, abs=1e-5)


def test_a_new_episode_without_factors_competes_by_content_alone(items: Items) -> None:
    generation(items, {f"e:{n}": ((1, 0) if n < 3 else (0, 1)) for n in range(6)})
    items.put_episode(episode(99))
    embed(items, 99, 1.0, 0.0)
    ids, ranking = listing(items, heard(0))
    assert ids[0] == "e:99"
    assert ranking[0].parts.als == 0.0


def test_new_episodes_do_not_crowd_out_what_fits_better() -> None:
    """Cosines of texts are all near the best one, while preferences fall off soon."""
    items = Items()

    def add(number: int, angle: float) -> None:
        items.put_episode(episode(number))
        embed(items, number, float(np.cos(angle)), float(np.sin(angle)))

    for number in range(30):
        add(number, number / 60)
    generation(items, {f"e:{n}": (0.8**n, 0.1) for n in range(30)})
    for number in (97, 98, 99):
        add(number, 0.25 + number / 10_000)  # about the fifteenth nearest
    ids, ranking = listing(items, heard(0), DEFAULT_WEIGHTS)
    assert ids == [f"e:{n}" for n in range(1, 11)]
    assert all(place.parts.als > 0 for place in ranking)


def test_a_new_episode_takes_the_place_that_its_content_has(items: Items) -> None:
    generation(items, {f"e:{n}": (1 / (n + 1), 0.1) for n in range(6)})
    items.put_episode(episode(99))
    embed(items, 99, 0.0, 1.0)  # nothing is farther from what was heard
    ids, ranking = listing(items, heard(0), ScoreParts(0.9, 0.1, 0.0))
    assert ids[-1] == "e:99"
    last = ranking[-1]
    assert last.parts.als == last.earned.als == 0.0
    assert sum(last.earned) == pytest.approx(last.score, abs=1e-5)


def test_what_nothing_is_known_of_does_not_beat_what_fits(items: Items) -> None:
    items.put_episode(episode(99))
    items.set_trending({"all": [("e:99", 5.0)]})
    ids, _ = listing(items, heard(0))
    assert ids[0] == "e:1"


def test_a_listener_without_history_gets_trending_overall_and_by_category(items: Items) -> None:
    items.set_trending(
        {"all": [("e:5", 8.0), ("e:4", 2.0)], "category:History": [("e:0", 3.0), ("e:1", 0.3)]}
    )
    ids, ranking = listing(items, ListenerState())
    assert ids[:4] == ["e:5", "e:0", "e:4", "e:1"]
    assert [place.score for place in ranking[:3]] == pytest.approx([1.0, 0.5, 0.25])


def test_a_category_ranking_counts_for_those_who_hear_it(items: Items) -> None:
    items.set_trending({"all": [], "category:History": [("e:2", 3.0)]})
    history = listing(items, heard(0), ScoreParts(0, 0, 1))[1][0]
    science = listing(items, heard(3), ScoreParts(0, 0, 1))[1]
    assert items.ids[history.row] == "e:2"
    assert history.parts.trending == 1.0
    assert all(place.parts.trending == 0.0 for place in science)


def test_a_ranking_stays_until_its_scope_has_another(items: Items) -> None:
    items.set_trending({"all": [("e:5", 8.0)], "category:History": [("e:0", 3.0)]})
    items.set_trending({"category:History": [("e:1", 3.0)]})
    items.set_trending({"language:en": [("e:2", 9.0)], "category:Art": []})
    assert [items.ids[row] for row in items.overall] == ["e:5"]
    assert list(items.by_category) == ["Art", "History"]
    assert [items.ids[row] for row in items.by_category["History"]] == ["e:1"]


def test_no_places_are_no_list(items: Items) -> None:
    assert listing(items, heard(0), count=0) == ([], [])


def test_of_many_episodes_the_best_places_are_compared() -> None:
    items, many = Items(), 600
    for number in range(many + 1):
        items.put_episode(episode(number))
        angle = number / many
        embed(items, number, float(np.cos(angle)), float(np.sin(angle)))
    known = {f"e:{number}": (1.0, number / many) for number in range(many)}
    assert generation(items, known)
    ids, ranking = listing(items, heard(0), count=many)
    places = dict(zip(ids, ranking, strict=True))
    # The one without factors is farthest from what was heard: it is below all that is compared.
    assert places["e:1"].score > places["e:300"].score > 0
    assert f"e:{many}" not in ids[: many // 2]


def test_equals_go_by_date_then_by_id() -> None:
    items = Items()
    for number, day in ((3, 1), (1, 1), (2, 5), (4, 1)):
        items.put_episode(episode(number, day=day))
    assert listing(items, ListenerState())[0] == ["e:2", "e:1", "e:3", "e:4"]
    assert listing(items, ListenerState(), count=2)[0] == ["e:2", "e:1"]


def test_only_episodes_with_a_record_are_recommended(items: Items) -> None:
    items.set_trending({"all": [("e:unknown", 9.0)]})
    embed(items, 77, 1.0, 0.0)
    items.drop_episode("e:1")
    assert set(listing(items, heard(0))[0]) == {"e:2", "e:3", "e:4", "e:5"}


def test_a_list_does_not_depend_on_who_is_scored_beside(items: Items) -> None:
    generation(items, {f"e:{n}": (1 + n / 9, n / 7) for n in range(6)})
    profiles = [profile(one, items) for one in (heard(0), ListenerState(), heard(3, likes=1))]
    together = recommend(items, profiles, DEFAULT_WEIGHTS, 10)
    for one, ranking in zip(profiles, together, strict=True):
        (alone,) = recommend(items, [one], DEFAULT_WEIGHTS, 10)
        assert [place.row for place in alone] == [place.row for place in ranking]


def test_a_generation_is_active_once_announced_and_whole() -> None:
    items = Items()
    items.generations.announce(
        {
            "generation": "g1",
            "model": "als",
            "items": 2,
            "rank": 2,
            "alpha": 1.0,
            "regularization": 0.1,
        },
        5,
    )
    for number in range(2):
        assert not items.activate()
        record = {"episode_id": f"e:{number}", "generation": "g1"}
        items.generations.put_factors({**record, "vector": vector(1, number)})
    assert items.activate()
    assert not items.activate()
    assert items.factors is not None
    assert items.factors.generation == "g1"
    np.testing.assert_allclose(items.factors.gram, [[2, 1], [1, 1]])


def test_an_older_generation_does_not_come_back() -> None:
    items = Items()
    assert generation(items, {"e:1": (1, 0)}, "g2")
    assert not generation(items, {"e:1": (0, 1), "e:2": (0, 1)}, "g1")
    assert items.factors is not None
    assert items.factors.generation == "g2"


def test_weights_are_averaged_and_scaled() -> None:
    assert mean_weights([]) == DEFAULT_WEIGHTS
    one = {"als": 1.0, "content": 0.0, "trending": 0.0}
    other = {"als": 0.0, "content": 1.0, "trending": 0.0}
    assert mean_weights([one, other]) == ScoreParts(0.5, 0.5, 0.0)
    nothing = {"als": 0.0, "content": -1.0, "trending": 0.0}
    assert mean_weights([nothing]) == DEFAULT_WEIGHTS
