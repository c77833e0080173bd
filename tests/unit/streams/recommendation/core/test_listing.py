"""What people are told of each generation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streams.recommendation.core.listing import listed, refused_lately, serving

AT = datetime(2026, 3, 1, tzinfo=UTC)


def record(name: str, **more: Any) -> dict[str, Any]:
    return {
        "generation": name, "model": "als", "trained_at": AT, "train_seconds": 2.5, "users": 3,
        "items": 4, "interactions": 5, **more,
    }  # fmt: skip


JUDGED = {
    "model": "two_stage", "listeners": 40, "ndcg_at_10": 0.3, "error": 0.01, "popularity": 0.1,
}  # fmt: skip


def states(*records: dict[str, Any], refusals: tuple[str, ...] = ()) -> dict[str, str]:
    told = [{"generation": name, "refused_because": "NaN"} for name in refusals]
    return {one.generation: one.state for one in listed(records, told)}


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
    assert listed([record("g1", model=model)], []) == []
