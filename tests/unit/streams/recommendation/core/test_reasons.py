"""Reasons follow the part that contributes most."""

from datetime import UTC, datetime

import numpy as np
import pytest

from streams.recommendation.core.items import Items
from streams.recommendation.core.listeners import ListenerState, ListeningTotals
from streams.recommendation.core.reasons import ALIKE, explain
from streams.recommendation.core.scoring import Ranked, Shares, Signals, profile

NOTHING = Signals(0.0, 0.0, 0.0)
NONE_EARNED = Shares(0.0, 0.0, 0.0)
CONTENT = Shares(0.1, 0.5, 0.1)


@pytest.fixture
def items() -> Items:
    made = Items()
    for name, category, direction in (
        ("bees", "Nature", (1.0, 0.0)),
        ("wasps", "Nature", (0.9, 0.1)),
        ("jazz", "Music", (0.0, 1.0)),
        ("blues", "Music", (0.1, 0.9)),
        ("bare", None, None),
    ):
        made.put_episode(
            {
                "episode_id": name,
                "title": name.title(),
                "show_title": "Show",
                "categories": [category] if category else [],
                "published_at": datetime(2026, 1, 1, tzinfo=UTC),
            }
        )
        if direction:
            vector = np.array(direction, dtype="<f4").tobytes()
            made.put_embedding({"episode_id": name, "model": "m", "vector": vector})
    made.set_trending({"all": [("blues", 2.0), ("wasps", 1.0)], "category:Nature": [("wasps", 4)]})
    return made


LISTENER = ListenerState(
    0,
    "x",
    "",
    {
        "bees": ListeningTotals(plays=1, completes=1),
        "jazz": ListeningTotals(heard_ms=60_000, plays=1),
    },
)


def reason(items: Items, name: str, earned: Shares, listener: ListenerState = LISTENER) -> str:
    place = Ranked(items.rows[name], 0.5, NOTHING, earned)
    (text,) = explain(items, listener, profile(listener, items), [place])
    return text


def test_content_names_the_nearest_liked_episode(items: Items) -> None:
    assert reason(items, "wasps", CONTENT) == "Because you finished “Bees”"
    assert reason(items, "blues", CONTENT) == "Because you listened to “Jazz”"


def test_a_disliked_episode_is_no_reason(items: Items) -> None:
    listener = ListenerState(
        0,
        "x",
        "",
        {
            "bees": ListeningTotals(plays=1, likes=-1),
            "jazz": ListeningTotals(heard_ms=60_000, plays=1),
        },
    )
    assert reason(items, "wasps", CONTENT, listener) == "Because you listened to “Jazz”"


def test_content_without_a_liked_episode_that_can_be_named_says_what_else_there_is(
    items: Items,
) -> None:
    nobody = ListenerState(0, "x", "", {})
    assert reason(items, "wasps", CONTENT, nobody) == ALIKE
    assert reason(items, "wasps", Shares(0.0, 0.5, 0.0), nobody) == "New in Nature"


def test_factors_speak_of_listeners_alike(items: Items) -> None:
    assert reason(items, "wasps", Shares(0.5, 0.2, 0.1)) == ALIKE


def test_trending_names_the_ranking_where_it_stands_highest(items: Items) -> None:
    trending = Shares(0.0, 0.0, 0.3)
    assert reason(items, "wasps", trending) == "Trending in Nature"
    assert reason(items, "blues", trending) == "Trending now"


def test_without_any_sign_it_is_new(items: Items) -> None:
    assert reason(items, "wasps", NONE_EARNED) == "New in Nature"
    assert reason(items, "bare", NONE_EARNED) == "New"
