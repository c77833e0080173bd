from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.demo.core.simulation import (
    LIST_LENGTH,
    PLAYER_KINDS,
    RECOMMENDATIONS,
    SEARCH,
    TRENDING,
    ShownList,
    Truth,
    session,
    user_agent,
)
from streams.demo.core.taste import Catalogue, name_rng
from streams.events.core.bots import is_bot

DURATION_MS = 24 * 60_000 + 7


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    catalogue = Catalogue(1)
    for number in range(100):
        catalogue.add(f"e{number}", [f"c{number % 10}"], DURATION_MS)
    return catalogue


def best_list(catalogue: Catalogue, listener: str, *, worst: bool = False) -> list[str]:
    order = np.argsort(catalogue.matches(listener) * (1 if worst else -1), kind="stable")
    return [catalogue.ids()[row] for row in order[:LIST_LENGTH]]


def many(
    catalogue: Catalogue, shown: ShownList | None, sessions: int = 300, listener: str = "u"
) -> list[Any]:
    return [
        session(catalogue, listener, shown, set(), name_rng(n, "test")) for n in range(sessions)
    ]


def test_a_session_is_a_function_of_the_generator_and_what_was_shown(catalogue: Catalogue) -> None:
    shown = ShownList(RECOMMENDATIONS, best_list(catalogue, "u"), "g1")
    assert many(catalogue, shown, 20) == many(catalogue, shown, 20)


@given(st.integers(0, 2**31))
def test_what_is_heard_and_skipped_adds_up_to_the_position(seed: int) -> None:
    catalogue = Catalogue(1)
    catalogue.add("e", ["c"], DURATION_MS)
    place = 0
    for act in session(catalogue, "u", None, set(), name_rng(seed)):
        assert act.heard_ms >= 0
        if act.kind == "skip":
            assert act.heard_ms == 0
            assert abs(act.position_ms - place) >= 10_000
            place = act.position_ms
        elif act.kind in PLAYER_KINDS:
            place += act.heard_ms
            assert place == act.position_ms
        assert 0 <= act.position_ms <= DURATION_MS


def test_who_hears_what_is_not_to_their_taste_skips_more(catalogue: Catalogue) -> None:
    matches = catalogue.matches("u")
    reports, skips = np.zeros(2), np.zeros(2)
    for act in (act for acts in many(catalogue, None, 3_000) for act in acts):
        liked = int(matches[catalogue.index(act.episode_id)] > 0.5)
        reports[liked] += act.kind == "progress"
        skips[liked] += act.kind == "skip"
    bored, taken = skips / reports
    assert bored > 2 * taken > 0.0


def test_ten_places_are_shown_with_rank_and_generation(catalogue: Catalogue) -> None:
    shown = ShownList(RECOMMENDATIONS, [f"e{n}" for n in range(30)], "g1")
    browsed = [s for s in many(catalogue, shown) if s and s[0].kind == "impression"]
    for acts in browsed:
        impressions = [act for act in acts if act.kind == "impression"]
        assert [act.rank for act in impressions] == list(range(1, 11))
        assert {act.generation for act in acts} == {"g1"}
        clicked = {act.episode_id for act in acts if act.kind == "click"}
        assert {act.episode_id for act in acts if act.kind == "play"} <= clicked


def test_about_a_fifth_of_the_sessions_are_searches(catalogue: Catalogue) -> None:
    shown = ShownList(TRENDING, [f"e{n}" for n in range(10)])
    searches = sum(acts[0].surface == SEARCH for acts in many(catalogue, shown, 600))
    assert 0.15 < searches / 600 < 0.25


def test_a_better_list_earns_more_plays_and_longer_listening(catalogue: Catalogue) -> None:
    def gained(*, worst: bool) -> tuple[int, int]:
        shown = ShownList(RECOMMENDATIONS, best_list(catalogue, "u", worst=worst))
        acts = [a for s in many(catalogue, shown) for a in s if a.surface == RECOMMENDATIONS]
        return sum(a.kind == "play" for a in acts), sum(a.heard_ms for a in acts)

    good, bad = gained(worst=False), gained(worst=True)
    assert good[0] > 3 * bad[0]
    assert good[1] > 3 * bad[1]


def test_higher_places_are_looked_at_more(catalogue: Catalogue) -> None:
    favourite = best_list(catalogue, "u")[0]
    others = best_list(catalogue, "u", worst=True)[:9]

    def clicks(ids: list[str]) -> int:
        return sum(
            a.kind == "click" and a.episode_id == favourite
            for s in many(catalogue, ShownList(RECOMMENDATIONS, ids))
            for a in s
        )

    assert clicks([favourite, *others]) > 1.5 * clicks([*others, favourite])


def test_a_search_does_not_repeat_what_was_heard(catalogue: Catalogue) -> None:
    heard = {f"e{n}" for n in range(99)}
    for seed in range(20):
        acts = session(catalogue, "u", None, heard, name_rng(seed))
        assert {act.episode_id for act in acts} == {"e99"}
    assert session(catalogue, "u", None, heard | {"e99"}, name_rng(0)) == []


def test_a_few_listeners_are_crawlers_and_the_others_are_not() -> None:
    bots = [number for number in range(1, 201) if is_bot(user_agent(number))]
    assert bots == [40, 80, 120, 160, 200]
    assert len({user_agent(number) for number in bots}) == 2


def test_nothing_happens_without_episodes_or_with_unknown_ones(catalogue: Catalogue) -> None:
    assert session(Catalogue(1), "u", None, set(), name_rng(0)) == []
    shown = ShownList(RECOMMENDATIONS, ["unknown"])
    assert all(not s or s[0].surface == SEARCH for s in many(catalogue, shown, 50))


def test_the_truth_tells_good_lists_from_blind_and_bad_ones(catalogue: Catalogue) -> None:
    def truth_of(ids: list[str]) -> Truth:
        truth, shown = Truth(), ShownList(RECOMMENDATIONS, ids)
        for acts in many(catalogue, shown, 100):
            truth.record(catalogue, "u", shown, set(), acts)
        return truth

    good = truth_of(best_list(catalogue, "u"))
    bad = truth_of(best_list(catalogue, "u", worst=True))
    assert good.figures()["regret"] == pytest.approx(0.0)
    assert good.figures()["share_recommended"] > 0.5
    assert "better than" in good.verdict()
    assert bad.figures()["regret"] > 0.9 * bad.figures()["best"]
    assert "worse than" in bad.verdict()
    assert "no recommendations" in Truth().line()
