"""What people are told of each generation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streams.recommendation.core.listing import (
    CHOSEN,
    LATEST,
    ChoiceError,
    ListedGeneration,
    listed,
    promoted,
    refused_lately,
    rolled_back,
    serving,
)

AT = datetime(2026, 3, 1, tzinfo=UTC)
KEPT = 2


def record(name: str, **more: Any) -> dict[str, Any]:
    return {
        "generation": name, "model": "als", "trained_at": AT, "train_seconds": 2.5, "users": 3,
        "items": 4, "interactions": 5, **more,
    }  # fmt: skip


JUDGED = {
    "model": "two_stage", "listeners": 40, "ndcg_at_10": 0.3, "error": 0.01, "popularity": 0.1,
}  # fmt: skip


def states(
    *records: dict[str, Any], refusals: tuple[str, ...] = (), chosen: str | None = None
) -> dict[str, str]:
    choice = None if chosen is None else {"model": "als", "generation": chosen}
    told = [{"generation": name, "refused_because": "NaN"} for name in refusals]
    return {one.generation: one.state for one in listed(records, told, choice, KEPT)}


def test_the_newest_that_is_not_refused_serves_and_those_before_are_past() -> None:
    assert states() == {}
    bad = record("g3", refused_because="worse")
    assert states(record("g1"), record("g2"), bad) == {
        "g3": "refused", "g2": "serving", "g1": "past",
    }  # fmt: skip
    assert states(record("g1"), record("g2"), refusals=("g2",)) == {
        "g2": "refused", "g1": "serving",
    }  # fmt: skip
    assert states(record("g1", slot=0), record("g2", slot=1), record("g3", slot=0)) == {
        "g3": "serving", "g2": "kept", "g1": "past",
    }  # fmt: skip


def test_figures_and_reasons_are_told() -> None:
    told = listed(
        [
            record("g1", unranked_because="too little"),
            record("g2", judged=JUDGED),
            record("g3", judged=JUDGED, refused_because="worse"),
            record("g4"),
        ],
        [{"generation": "g4", "refused_because": "NaN"}],
        None,
        KEPT,
    )
    by_name = {one.generation: one for one in told}
    assert [one.generation for one in refused_lately(told)] == ["g4", "g3"]
    served = serving(told)
    assert served is not None
    assert (served.generation, served.ndcg_at_10, served.error) == ("g2", 0.3, 0.01)
    assert by_name["g1"].because == "not ranked: too little"
    assert by_name["g1"].ndcg_at_10 is None
    assert by_name["g3"].because == "worse"
    assert by_name["g2"].as_dict()["trained_at"] == "2026-03-01T00:00:00+00:00"


@pytest.mark.parametrize("model", ["blend", ""])
def test_what_others_train_is_not_listed(model: str) -> None:
    assert listed([record("g1", model=model)], [], None, KEPT) == []


# -- choosing --------------------------------------------------------------------------------------

FOUR = [record(f"g{number}", slot=number % 3) for number in range(1, 5)]


def test_what_was_chosen_serves_before_newer_ones_while_it_is_kept() -> None:
    assert states(*FOUR) == {"g4": "serving", "g3": "kept", "g2": "past", "g1": "past"}
    assert states(*FOUR, chosen="g2") == {"g4": "kept", "g3": "past", "g2": "serving", "g1": "past"}
    assert states(*FOUR, chosen="g1") == states(*FOUR, chosen="") == states(*FOUR)
    assert states(*FOUR, chosen="g2", refusals=("g2",))["g4"] == "serving"
    told = listed(FOUR, [], {"model": "als", "generation": "g2"}, KEPT)
    served = serving(told)
    assert served is not None
    assert served.because == CHOSEN


def choose(make: Any, chosen: str = "") -> str:
    """The generation that serves once a choice is made."""
    choice: dict[str, Any] = {"model": "als", "generation": chosen}
    found = listed(FOUR, [], choice, KEPT)
    made: dict[str, Any] = make(found)
    before, after = serving(found), serving(listed(FOUR, [], made, KEPT))
    assert before is not None
    assert after is not None
    assert (made["before"], made["promoted_at"]) == (before.generation, AT)
    return after.generation


def test_one_that_is_kept_can_be_promoted_and_taken_back() -> None:
    assert choose(lambda found: promoted(found, "g3", AT)) == "g3"
    assert choose(lambda found: promoted(found, "g4", AT)) == "g4"
    assert choose(lambda found: promoted(found, LATEST, AT), chosen="g3") == "g4"
    assert choose(lambda found: rolled_back(found, AT)) == "g3"


def test_what_cannot_serve_is_not_chosen() -> None:
    found = listed(FOUR, [], None, KEPT)
    with pytest.raises(ChoiceError, match=r"g1 is past\. Those that can serve: g4, g3"):
        promoted(found, "g1", AT)
    with pytest.raises(ChoiceError, match="g9 is not known"):
        promoted(found, "g9", AT)
    refused = listed(FOUR, [{"generation": "g3", "refused_because": "NaN"}], None, KEPT)
    with pytest.raises(ChoiceError, match="g3 is refused"):
        promoted(refused, "g3", AT)
    nothing: list[ListedGeneration] = []
    with pytest.raises(ChoiceError, match="No generation serves yet"):
        rolled_back(nothing, AT)
    alone = listed(FOUR[:1], [], None, KEPT)
    with pytest.raises(ChoiceError, match="older than g1"):
        rolled_back(alone, AT)
    assert promoted(nothing, LATEST, AT)["before"] == ""
