"""Rankings: every scope has its best places, is told when it changes, and is merged on read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.units import MINUTE_MS
from streams.engagement.core import trending
from streams.engagement.core.trending import (
    ALL,
    PLACES,
    Board,
    TrendingScopes,
    best,
    both_scope,
    category_of,
    category_scope,
    is_of_a_language,
    language_of,
    language_scope,
    merge_scopes,
)
from streams.engagement.core.trending_state import HALF_LIFE_MINUTES, TrendingState
from streams.engagement.core.window_rows import (
    WindowMessage,
)

AT = 29_453_760


def record(partition: int, at: int, *places: dict[str, Any]) -> dict[str, Any]:
    moment = datetime.fromtimestamp(at * 60, UTC)
    return {
        "scope": ALL,
        "source_partition": partition,
        "at": moment,
        "episodes": list(places),
    }


def place(episode_id: str, score: float, plays: int, **others: float) -> dict[str, Any]:
    return {"episode_id": episode_id, "score": score, "plays": plays, **others}


def state_of(
    new_listeners: dict[str, int], state: TrendingState | None = None, at: int = AT
) -> TrendingState:
    """Everything new in one minute."""
    state = state or TrendingState(900)
    rows = pl.DataFrame(
        {
            "episode_id": list(new_listeners),
            "bucket": pl.Series([at * MINUTE_MS] * len(new_listeners)).cast(
                pl.Datetime("ms", "UTC")
            ),
            "source_partition": 0,
            "offset": state.applied + 1,
            "plays": [2 * count for count in new_listeners.values()],
            "new_listeners": list(new_listeners.values()),
        }
    )
    state.fold([WindowMessage(state.applied + 1, 0, rows)])
    return state


def test_every_scope_has_its_best_places() -> None:
    scopes = TrendingScopes()
    scopes.put("pi:003", ["Tv", "News", "Tv"], "en-us")
    scopes.put("pi:004", ["Tv"], "")
    scopes.put("pi:999", ["Music"], "de")
    state = state_of({f"pi:{n:03}": n for n in range(PLACES + 10)})
    rankings = dict(Board(scopes, state).changes())
    assert set(rankings) == {
        ALL,
        "category:Tv",
        "category:News",
        "language:en-us",
        "category:Tv|language:en-us",
        "category:News|language:en-us",
    }
    assert len(rankings[ALL]) == PLACES
    assert rankings[ALL][0]["episode_id"] == "pi:059"
    assert [place["episode_id"] for place in rankings["category:Tv"]] == ["pi:004", "pi:003"]
    (only,) = rankings["category:News|language:en-us"]
    assert only == {
        "episode_id": "pi:003",
        "score": 3.0,
        "plays": 6,
        "recent": 3,
        "usual": 0.0,
        "rise": 4.0,
    }


def test_a_scope_tells_whether_it_is_of_a_language() -> None:
    odd = [category_scope(name) for name in ("Tv", "A|B", "A|language:en")]
    assert not any(map(is_of_a_language, [ALL, *odd]))
    assert all(map(is_of_a_language, ("language:en", "category:Tv|language:en")))


PIECES = ["|", "%", "2", "5", "7", "C", ":", "a", "language:", "category:"]
NAMES = st.lists(st.sampled_from(PIECES)).map("".join)
PARTS = st.tuples(st.none() | NAMES, st.none() | NAMES)


def scope_of(category: str | None, language: str | None) -> str:
    if category is not None and language is not None:
        return both_scope(category, language)
    if category is not None:
        return category_scope(category)
    return ALL if language is None else language_scope(language)


@given(PARTS, PARTS)
@example(("News|language:en", None), ("News", "en"))
@example(("a%7Cb", None), ("a|b", None))
def test_no_two_names_have_one_scope(
    one: tuple[str | None, str | None], other: tuple[str | None, str | None]
) -> None:
    assert (scope_of(*one) == scope_of(*other)) == (one == other)
    alone = one[0] is None or one[1] is None
    assert category_of(scope_of(*one)) == (one[0] if alone else None)
    assert language_of(scope_of(*one)) == (one[1] if alone else None)


def test_usual_names_are_written_as_they_are() -> None:
    assert both_scope("Arts & 50 % Crafts: A/B", "de-AT") == (
        "category:Arts & 50 % Crafts: A/B|language:de-AT"
    )


def test_equal_scores_are_in_the_order_of_ids_and_no_score_is_no_place() -> None:
    scopes = TrendingScopes()
    ids = ["b", "c", "a", "zero"]
    chosen, episodes = best(np.array([1.0, 2.0, 1.0, 0.0]), scopes.members(ids))
    assert chosen.tolist() == [0, 0, 0]
    assert [ids[episode] for episode in episodes] == ["c", "a", "b"]


def test_a_board_tells_what_has_changed() -> None:
    scopes = TrendingScopes()
    scopes.put("pi:1", ["Tv"], "")
    scopes.put("pi:2", ["News"], "")
    state = state_of({"pi:1": 2, "pi:2": 1})
    board = Board(scopes, state)
    assert {scope for scope, _ in board.changes()} == {ALL, "category:Tv", "category:News"}
    assert board.changes() == []
    state_of({"pi:2": 5}, state)
    assert [scope for scope, _ in board.changes()] == [ALL, "category:News"]
    scopes.put("pi:2", ["Arts"], "")
    told = dict(board.changes())
    assert told["category:News"] == []
    assert told["category:Arts"][0]["episode_id"] == "pi:2"
    scopes.drop("pi:2")
    told = dict(board.changes())
    assert told.keys() == {ALL, "category:Arts"}
    assert [place["episode_id"] for place in told[ALL]] == ["pi:1"]
    assert told["category:Arts"] == []
    scopes.drop("pi:2")
    assert board.changes() == []
    scopes.put("pi:2", ["Arts"], "")
    assert {scope for scope, _ in board.changes()} == {ALL, "category:Arts"}


def test_a_busy_board_lets_the_narrow_scopes_wait_but_forgets_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trending, "TOLD_AT_ONCE", 3)
    scopes = TrendingScopes()
    for number in range(4):
        scopes.put(f"pi:{number}", ["Tv"], f"l{number}")
    state = state_of({f"pi:{n}": n + 1 for n in range(4)})
    board = Board(scopes, state)
    told = []
    while changes := board.changes():
        assert len(changes) <= 3
        told += [scope for scope, _ in changes]
    assert len(told) == len(set(told)) == 10
    assert all("|" in scope for scope in told[6:])


def test_a_ranking_that_was_told_is_taken_back_after_a_restart() -> None:
    """Whether the state was saved after it was told (News) or before (Tv)."""
    scopes = TrendingScopes()
    scopes.put("pi:1", ["Tv"], "")
    scopes.put("pi:2", ["News"], "")
    state = state_of({"pi:2": 1})
    Board(scopes, state).changes()
    state_of({"pi:1": 1}, state)
    saved = state.changes()
    Board(scopes, state).changes()

    restored = TrendingState(900)
    restored.load_changes(saved)
    assert restored.published == {ALL, "category:News"}
    board = Board(scopes, restored)
    state_of({"pi:3": 1}, restored, at=AT + 7 * 60)
    told = board.changes()
    assert [scope for scope, places in told if not places] == ["category:News", "category:Tv"]
    assert [place["episode_id"] for place in dict(told)[ALL]] == ["pi:3"]


def test_merging_brings_partitions_to_one_time() -> None:
    merged = merge_scopes(
        [
            record(0, AT - HALF_LIFE_MINUTES, place("pi:old", 10.0, 10)),
            record(1, AT - 1, place("pi:gone", 99.0, 99)),
            record(
                1,
                AT,
                place("pi:new", 6.0, 6, recent=5, usual=1.0, rise=3.0),
                place("pi:low", 1.0, 1),
            ),
        ]
    )
    assert [(p["episode_id"], p["plays"]) for p in merged] == [
        ("pi:new", 6),
        ("pi:old", 10),
        ("pi:low", 1),
    ]
    assert merged[1]["score"] == pytest.approx(5.0)
    assert [(p["recent"], p["usual"], p["rise"]) for p in merged[:2]] == [(5, 1.0, 3.0), (0, 0, 1)]
    assert merge_scopes([]) == []


def test_of_a_partition_the_newest_record_counts_in_whatever_order_they_are_read() -> None:
    old, new = record(0, AT - 5, place("pi:1", 9.0, 9)), record(0, AT, place("pi:1", 2.0, 2))
    for records in ([old, new], [new, old]):
        (merged,) = merge_scopes(records)
        assert (merged["score"], merged["plays"]) == (2.0, 2)


def test_what_is_known_already_makes_no_new_version_of_the_scopes() -> None:
    scopes = TrendingScopes()
    scopes.put("pi:1", ["Tv"], "en")
    version = scopes.version
    scopes.put("pi:1", ["Tv", "Tv"], "en")
    assert scopes.version == version
    scopes.put("pi:1", ["Tv"], "de")
    assert scopes.version == version + 1
