"""Answers of the read API, made of documents."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.metrics import ROLLING_METRICS
from streams.api.core import answers
from streams.api.core.filters import Filters

NOON = datetime(2026, 3, 2, 12, 5, tzinfo=UTC)
LANGUAGES = ["", "en", "en-GB", "EN-us", "eng", "de"]
CATEGORIES = ["Comedy", "comedy", "News", "True Crime"]


def episode(**known: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(answers.EPISODE_FIELDS)
    return nothing | {"language": "", "categories": [], "explicit": False} | known


EPISODES = st.builds(
    episode,
    language=st.sampled_from(LANGUAGES),
    categories=st.lists(st.sampled_from(CATEGORIES), max_size=3),
    explicit=st.booleans(),
)
FILTERS = st.builds(
    Filters,
    language=st.none() | st.sampled_from(LANGUAGES[1:]),
    category=st.none() | st.sampled_from(CATEGORIES),
    explicit=st.none() | st.booleans(),
)
KNOWN = st.dictionaries(st.sampled_from("abcdefgh"), EPISODES)


def listed(ids: str) -> dict[str, Any]:
    return {
        "items": [
            {
                "episode_id": name,
                "title": name.upper(),
                "show": "Show",
                "score": 1.0 - place / 10,
                "parts": {"als": 0.1, "content": 0.2, "trending": 0.3},
                "reason": f"reason {place % 3}",
            }
            for place, name in enumerate(ids)
        ]
    }


@given(KNOWN, FILTERS, st.integers(1, 10))
def test_a_list_keeps_its_order_and_only_what_the_filters_admit(
    known: dict[str, dict[str, Any]], filters: Filters, count: int
) -> None:
    items = answers.recommended(listed("abcdefgh"), known, filters, count)
    ids = [item["episode_id"] for item in items]
    assert ids == [name for name in "abcdefgh" if filters.admit(known.get(name))][:count]


@given(EPISODES, FILTERS)
def test_a_filter_more_never_lets_more_in(one: dict[str, Any], filters: Filters) -> None:
    if filters.admit(one):
        assert Filters(language=filters.language).admit(one)
        assert Filters(category=filters.category).admit(one)
        assert Filters(explicit=filters.explicit).admit(one)


@pytest.mark.parametrize(
    ("tag", "wanted", "expected"),
    [
        ("en-GB", "en", True),
        ("EN", "en", True),
        ("eng", "en", False),
        ("", "en", False),
        ("en", "en-GB", False),
        ("zh-Hant-TW", "zh-hant", True),
    ],
)
def test_a_language_takes_its_regions_along(tag: str, wanted: str, expected: bool) -> None:
    assert Filters(language=wanted).admit(episode(language=tag)) is expected


def test_an_episode_whose_record_is_unknown_passes_no_filter() -> None:
    assert Filters().admit(None)
    assert not Filters(explicit=False).admit(None)


def test_rankings_are_looked_for_from_the_closest_to_all() -> None:
    assert Filters(language="en", category="News").scopes() == [
        "category:News|language:en",
        "category:News",
        "language:en",
        "all",
    ]
    assert Filters(explicit=False).scopes() == ["all"]


@given(st.text("abcdefgh", max_size=12).map(lambda ids: "".join(dict.fromkeys(ids))))
def test_rows_are_the_items_once_each_under_their_reasons(ids: str) -> None:
    items = answers.recommended(listed(ids), {}, Filters(), 100)
    rows = answers.rows(items)
    assert sorted(name for row in rows for name in row["episode_ids"]) == sorted(ids)
    of = {item["episode_id"]: item["reason"] for item in items}
    assert all(of[name] == row["title"] for row in rows for name in row["episode_ids"])
    firsts = [ids.index(row["episode_ids"][0]) for row in rows]
    assert firsts == sorted(firsts)


def test_an_episode_of_several_rankings_comes_once_where_it_is_first() -> None:
    def ranking(ids: str, score: float) -> dict[str, Any]:
        figures = {"score": score, "plays": 1, "recent": 1, "usual": 0.0, "rise": 2.0}
        return {"episodes": [{"episode_id": name, **figures} for name in ids]}

    items = answers.trending([ranking("ba", 0.5), ranking("abc", 0.9)], {}, Filters(), 10)
    assert [(item["episode_id"], item["score"]) for item in items] == [
        ("b", 0.5),
        ("a", 0.5),
        ("c", 0.9),
    ]
    assert all("rise" not in item for item in answers.instead(items))


def test_the_catalogue_s_title_goes_before_the_list_s() -> None:
    known = {"a": episode(title="Newer", show_title="")}
    (item,) = answers.recommended(listed("a"), known, Filters(), 1)
    assert (item["title"], item["show"]) == ("Newer", "Show")


def rolling(minutes: int, at: datetime | None, *scopes: str) -> dict[str, Any]:
    counts = dict.fromkeys(ROLLING_METRICS, minutes)
    return {
        "minutes": minutes,
        "at": at,
        "scopes": [{"scope": scope, "title": "", **counts} for scope in scopes],
    }


def test_a_scope_that_a_full_window_leaves_out_is_unknown_and_else_nothing_happened() -> None:
    documents = [rolling(60, NOON, "a", "b"), rolling(1, NOON, "b"), rolling(5, None)]
    at, windows = answers.windows("a", map(answers.by_scope, documents), most=2)
    assert at == NOON
    assert [window["minutes"] for window in windows] == [1, 5, 60]
    assert windows[0]["counts"]["plays"] == 0
    assert windows[2]["counts"]["plays"] == 60
    at, windows = answers.windows("c", map(answers.by_scope, documents), most=2)
    assert windows[2]["counts"] is None


def test_days_are_asked_for_by_id_and_told_oldest_first() -> None:
    ids = answers.day_ids("pi:1", NOON)
    assert (ids[0], ids[-1], len(ids)) == ("pi:1|2026-02-24", "pi:1|2026-03-02", 7)
    (day,) = answers.days([{"day": NOON, "retention": [3]}])
    assert (day["day"].isoformat(), day["downloads"], day["final"]) == ("2026-03-02", 0, False)
