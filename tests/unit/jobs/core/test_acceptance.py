"""Which generations are refused, and which are not for want of data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.acceptance import (
    FEWEST_LISTENERS,
    GROWN,
    Past,
    Worth,
    check_lists,
    check_training,
    worse,
)
from jobs.core.interactions import Interactions
from jobs.core.list_training import ListTraining
from streams.recommendation.core.item_model import FEATURES, TABLES, ItemModel
from streams.recommendation.core.ranker import Ranker
from streams.recommendation.core.soundness import UnsoundError
from tests.halves import halves

MARGIN = 0.1
SERVED = Worth("two_stage", 0.4, 0.005, 2_000, 0.2, 100_000)


def test_one_that_fell_beyond_margin_and_noise_is_refused_in_words() -> None:
    assert worse(replace(SERVED, ndcg=0.37), SERVED, MARGIN) == ""
    why = worse(replace(SERVED, ndcg=0.3), SERVED, MARGIN)
    assert "nDCG@10 of 0.3000" in why
    assert "10%" in why
    assert worse(replace(SERVED, ndcg=0.3), SERVED, 0.3) == ""
    assert worse(replace(SERVED, ndcg=0.0, error=0.0), SERVED, 1.0) == ""


@pytest.mark.parametrize(
    ("ndcg", "popularity", "refused"),
    [
        (0.3, 0.2, True),
        (0.3, 0.25, True),  # popularity rose: the cut is no harder than before
        (0.3, 0.15, False),  # popularity fell by a quarter, and so may this
        (0.27, 0.1, False),  # as far above popularity in proportion, if not by the amount
        (0.22, 0.01, False),
    ],
)
def test_what_popularity_lost_on_the_same_listening_is_not_held_against_it(
    ndcg: float, popularity: float, refused: bool
) -> None:
    new = replace(SERVED, ndcg=ndcg, popularity=popularity)
    assert bool(worse(new, SERVED, MARGIN)) == refused


def test_few_listeners_much_noise_and_another_catalogue_refuse_nothing() -> None:
    bad = replace(SERVED, ndcg=0.05)
    assert worse(bad, SERVED, MARGIN)
    assert worse(None, SERVED, MARGIN) == worse(bad, None, MARGIN) == ""
    assert worse(replace(bad, listeners=FEWEST_LISTENERS - 1), SERVED, MARGIN) == ""
    assert worse(bad, replace(SERVED, listeners=FEWEST_LISTENERS - 1), MARGIN) == ""
    assert worse(replace(bad, error=0.2), SERVED, MARGIN) == ""
    assert worse(replace(bad, pairs=int(GROWN * SERVED.pairs) + 1), SERVED, MARGIN) == ""
    assert worse(replace(bad, pairs=100), SERVED, MARGIN)  # less data is no excuse


shares = st.floats(0, 1)


@given(ndcg=shares, popularity=shares, served=shares, before=shares, margin=shares, more=shares)
def test_no_worse_in_every_figure_is_never_refused_and_better_is_no_worse(
    ndcg: float, popularity: float, served: float, before: float, margin: float, more: float
) -> None:
    old = replace(SERVED, ndcg=served, popularity=before)
    new = replace(SERVED, ndcg=ndcg, popularity=popularity)
    better = replace(new, ndcg=ndcg + more)
    if worse(better, old, margin):
        assert worse(new, old, margin)
    assert worse(replace(old, popularity=popularity), old, 0.0) == ""


def test_what_is_told_of_a_generation_is_read_again() -> None:
    record = {"judged": SERVED.to_record(), "interactions": SERVED.pairs}
    assert Worth.of_record(record) == SERVED
    assert Worth.of_record({"interactions": 3}) is None
    assert Worth.of_metrics({}, ranked=True, pairs=3) is None
    assert Worth.of_metrics({"item_item": {}}, ranked=False, pairs=3) is None


# -- numbers ---------------------------------------------------------------------------------------


@pytest.fixture
def pairs() -> Interactions:
    return halves(20, 12)


def factors_of(pairs: Interactions) -> np.ndarray:
    return np.ones((len(pairs.items), 4), dtype=np.float32)


def test_factors_of_all_that_was_heard_are_needed_and_of_nothing_else(pairs: Interactions) -> None:
    check_training(factors_of(pairs), pairs, 4)
    unheard = replace(pairs, strength=np.where(pairs.item == 3, -1.0, pairs.strength))
    with_a_gap = factors_of(pairs)
    with_a_gap[3] = np.nan
    check_training(with_a_gap, unheard, 4)
    with pytest.raises(UnsoundError, match="1 of 40 factors with numbers that are not finite"):
        check_training(with_a_gap, pairs, 4)
    with pytest.raises(UnsoundError, match="factors of 40 items, where 39 were heard"):
        check_training(factors_of(pairs), unheard, 4)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_single_number_that_is_none_is_found(pairs: Interactions, number: float) -> None:
    items = factors_of(pairs)
    items[7, 2] = number
    with pytest.raises(UnsoundError, match="not finite"):
        check_training(items, pairs, 4)


def test_factors_of_another_rank_and_of_other_items_are_found(pairs: Interactions) -> None:
    with pytest.raises(UnsoundError, match="of rank 8"):
        check_training(factors_of(pairs), pairs, 8)
    with pytest.raises(UnsoundError, match="of 40 items"):
        check_training(factors_of(pairs)[1:], pairs, 4)


def lists() -> ListTraining:
    one, wide = np.ones(2, np.float32), np.ones(len(FEATURES), np.float32)
    near = np.zeros((2, 1), np.int32), np.zeros((2, 1, len(TABLES)), np.float32)
    at_ms = np.ones(2, np.int64)
    model = ItemModel(*near, one, one.copy(), at_ms, at_ms, np.zeros(1, np.int64))
    unit = np.ones(1, np.float32)
    ranker = Ranker(wide, wide, np.ones((len(FEATURES) + 1, 1), np.float32), unit, unit)
    return ListTraining(model, ranker)


def test_neighbours_and_rankers_that_cannot_be_used_are_found() -> None:
    check_lists(lists(), 2)
    check_lists(ListTraining(unranked_because="too little"), 2)
    with pytest.raises(UnsoundError, match="neighbours of 2 items, not of 3"):
        check_lists(lists(), 3)
    for name in ("weights", "listeners", "liking"):
        bad = lists()
        getattr(bad.model, name).flat[0] = np.nan
        with pytest.raises(UnsoundError, match=f"neighbours with {name} that are not finite"):
            check_lists(bad, 2)
    bad = lists()
    assert bad.ranker is not None
    bad.ranker.hidden[0, 0] = np.inf
    with pytest.raises(UnsoundError, match="ranker with numbers in hidden"):
        check_lists(bad, 2)


# -- what the log says -----------------------------------------------------------------------------


def record(name: str, offset: int, **more: Any) -> dict[str, Any]:
    offsets = [{"source_partition": 0, "offset": offset}]
    return {"generation": name, "model": "als", "offsets": offsets, "interactions": 9, **more}


def test_a_refused_training_is_not_made_again_and_is_no_yardstick() -> None:
    past = Past()
    assert past.in_service is None
    past.add(record("g1", 10))
    past.add(record("g2", 20, refused_because="worse"))
    assert (past.newest, past.offsets) == ("g2", {0: 20})
    assert past.in_service == record("g1", 10)
    past.add(record("g3", 30))
    past.catalogue.refuse("g3")
    assert past.in_service == record("g1", 10)
    past.add(record("g0", 5))
    assert past.offsets == {0: 30}
