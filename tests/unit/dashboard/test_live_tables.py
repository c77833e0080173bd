"""What the dashboard asks about scopes, days, trends and anomalies, of the embedded server."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from dashboard import live_tables
from schemas.metrics import DAY_METRICS, ROLLING_METRICS

pytestmark = pytest.mark.mongo

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def test_empty_database_answers_empty(database: Database[dict[str, Any]]) -> None:
    assert live_tables.rolling(database, "show", 15) is None
    assert live_tables.trending_choices(database) == ([], [])
    assert live_tables.trending(database).is_empty()
    assert live_tables.anomalies(database).is_empty()
    assert live_tables.late_events(database, 4) == live_tables.Late(0, 0)
    assert live_tables.episode_days(database, "demo:1").is_empty()
    assert live_tables.without_gaps(live_tables.episode_days(database, "demo:1")).is_empty()


def test_a_rolling_window_is_shown_as_it_is_served(database: Database[dict[str, Any]]) -> None:
    counts = dict.fromkeys(ROLLING_METRICS, 2)
    scopes = [
        {"scope": "demo:1", "title": "Moss", "show": "U", **counts},
        {"scope": "demo:2", "title": "", "show": "", **counts},
    ]
    database["rolling_windows"].insert_one({"_id": "episode|15", "at": NOW, "scopes": scopes})
    database["rolling_windows"].insert_one({"_id": "show|15", "at": None, "scopes": []})
    found = live_tables.rolling(database, "episode", 15)
    assert found is not None
    assert found.at == NOW
    assert found.scopes.select("title", "listeners").rows() == [("Moss", 2), ("demo:2", 2)]
    assert live_tables.rolling(database, "show", 15) is None
    assert live_tables.rolling(database, "episode", 5) is None


def rank(database: Database[dict[str, Any]], scope: str, *episodes: dict[str, Any]) -> None:
    ranked = bool(episodes)
    database["trending_episodes"].insert_one(
        {"_id": scope, "at": NOW, "ranked": ranked, "episodes": list(episodes)}
    )


def test_trending_offers_what_has_a_ranking(database: Database[dict[str, Any]]) -> None:
    place = {"episode_id": "demo:1", "score": 1.0, "plays": 1}
    for scope in ("all", "category:Art", "language:de", "category:Art|language:de"):
        rank(database, scope, place)
    rank(database, "category:Zoo")
    assert live_tables.trending_choices(database) == (["Art"], ["de"])
    assert live_tables.scope_name(None, None) == "all"
    assert live_tables.scope_name("Art", None) == "category:Art"
    assert live_tables.scope_name(None, "de") == "language:de"
    assert live_tables.scope_name("Art", "de") == "category:Art|language:de"


def test_trending_is_named_and_ranked(database: Database[dict[str, Any]]) -> None:
    rank(
        database,
        "all",
        {"episode_id": "demo:2", "score": 9.0, "plays": 4, "recent": 12, "usual": 3, "rise": 3.25},
        {"episode_id": "demo:1", "score": 8.0, "plays": 3},
        {"episode_id": "demo:3", "score": 7.0, "plays": 2},
    )
    database["episodes"].insert_one({"_id": "demo:2", "title": "Moss", "show_title": "U"})
    found = live_tables.trending(database, limit=2)
    assert found.select("place", "title", "show", "recent", "usual", "rise").rows() == [
        (1, "Moss", "U", 12, 3.0, 3.25),
        (2, "demo:1", None, 0, 0.0, 1.0),
    ]


def test_anomalies_come_newest_first(database: Database[dict[str, Any]]) -> None:
    for age, direction in ((60, "rise"), (5, "fall")):
        database["episode_anomalies"].insert_one(
            {
                "_id": f"demo:1|{age}",
                "episode_id": "demo:1",
                "at": NOW - timedelta(minutes=age),
                "direction": direction,
                "plays": 9,
                "expected": 1,
                "score": 6.5,
            }
        )
    found = live_tables.anomalies(database)
    assert found["direction"].to_list() == ["fall", "rise"]
    assert found["title"].to_list() == ["demo:1", "demo:1"]
    assert found["expected"].to_list() == [1.0, 1.0]


def test_late_events_are_those_of_the_stage_that_counts(database: Database[dict[str, Any]]) -> None:
    for stage in ("track_engagement", "track_listening"):
        for partition in (0, 1):
            database["table_progress"].insert_one(
                {"_id": f"{stage}|{partition}", "stage": stage, "late": 3, "events": 100}
            )
    assert live_tables.late_events(database, 4) == live_tables.Late(6, 200)


def put_day(database: Database[dict[str, Any]], day: int, **fields: object) -> None:
    at = datetime(2026, 1, day, tzinfo=UTC)
    database["episode_days"].insert_one(
        {"_id": f"demo:1|{at:%Y-%m-%d}", "episode_id": "demo:1", "day": at, **fields}
    )


def test_days_of_an_episode_are_the_newest_in_order(database: Database[dict[str, Any]]) -> None:
    counts = dict.fromkeys(DAY_METRICS, 3)
    put_day(database, 1, **counts, retention=[3, 2])
    put_day(database, 4, retention=[9])
    put_day(database, 2, **counts)
    found = live_tables.episode_days(database, "demo:1", 2)
    assert found["day"].to_list() == [date(2026, 1, 2), date(2026, 1, 4)]
    assert found["downloads"].to_list() == [3, 0]
    assert found["retention"].to_list() == [[], [9]]
    whole = live_tables.without_gaps(found, 2)
    assert whole["day"].to_list() == [date(2026, 1, day) for day in (2, 3, 4)]
    assert whole["streams"].to_list() == [3, 0, 0]
    assert live_tables.without_gaps(found, 7)["day"][0] == date(2025, 12, 29)


@pytest.mark.parametrize(
    ("recent", "usual", "rise", "said"),
    [
        (12, 3.0, 3.25, "12 new listeners in the last hour, 3.2 times its usual"),
        (1, 0.5, 1.3, "1 new listener in the last hour, 1.3 times its usual"),
        (1200, 0.0, 1201.0, "1,200 new listeners in the last hour, none in the day before"),
    ],
)
def test_the_reason_is_said_in_words(recent: int, usual: float, rise: float, said: str) -> None:
    assert live_tables.why(recent, usual, rise) == said
