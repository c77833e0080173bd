"""The charts: what they draw, and that every axis says what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from dashboard import charts, episode_charts
from dashboard.retention import drop_offs
from schemas.metrics import ADDITIVE_METRICS

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
COUNTED = pl.DataFrame(
    {
        "at": [NOON, NOON + timedelta(minutes=1)],
        **{name: [4, 2] for name in ADDITIVE_METRICS},
    }
)
ITEMS = pl.DataFrame(
    {
        "place": [1, 2],
        "title": ["Moss", "<b>Tides</b>"],
        "score": [0.7, 0.4],
        "als": [0.8, 0.2],
        "content": [0.5, 0.5],
        "trending": [0.1, 0.9],
        "ranked": [1.0, None],
    }
)
METRICS = pl.DataFrame(
    {
        "model": ["als", "popularity", "blend", "blend"],
        "generation": ["g1", "g1", "partition-0", "partition-0"],
        "metric": ["ndcg_at_10", "ndcg_at_10", "auc", "drift"],
        "value": [0.3, 0.2, 0.7, 1.0],
        "at": [NOON] * 4,
    }
)
DAYS = pl.DataFrame({"day": [NOON.date()], "plays": [3], "hours": [0.5]})
SCOPES = pl.DataFrame({"title": ["Moss", "Tides"], "listeners": [5, 3], "engaged": [2, 0]})
EPISODE_DAYS = pl.DataFrame({"day": [NOON.date()], "downloads": [3], "streams": [2]})
CURVE = pl.DataFrame({"minute": [0, 1, 2], "listeners": [9, 4, 4], "share": [0.9, 0.4, 0.4]})
SHARES = pl.DataFrame({"label": ["1. <i>Ana</i>", "2 more"], "share": [0.7, 0.3]})
KINDS = pl.DataFrame({"kind": ["play"], "events": [3], "listeners": [2]})

CHARTS = {
    "events": charts.events_over_time(COUNTED, 1, running=True),
    "events, over": charts.events_over_time(COUNTED, 10, running=False),
    "heard": charts.heard_over_time(COUNTED, 1, running=True),
    "parts": charts.score_parts(ITEMS),
    "offline": charts.offline_metric(METRICS, "ndcg_at_10"),
    "online": charts.online_metric(METRICS, "auc", "AUC", 0.5),
    "days": charts.per_day(DAYS, "plays", "plays", "#000"),
    "scopes": charts.scope_bars(SCOPES),
    "days of an episode": episode_charts.days_of_episode(EPISODE_DAYS),
    "retention": episode_charts.retention(CURVE, drop_offs(CURVE)),
    "speakers": episode_charts.speakers(SHARES, "time"),
    "kinds": charts.by_kind(KINDS),
}


def channels(spec: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every x and y channel that holds a field, at any depth."""
    if isinstance(spec, dict):
        for name, channel in spec.get("encoding", {}).items():
            if name in ("x", "y") and "field" in channel:
                yield name, channel
        for part in spec.get("layer", []):
            yield from channels(part)


@pytest.mark.parametrize("name", CHARTS)
def test_amounts_have_a_title_and_times_are_utc(name: str) -> None:
    found = list(channels(CHARTS[name].to_dict()))
    assert found
    titled = [c for _, c in found if c.get("title")]
    assert titled, "no axis says what it shows"
    for _, channel in found:
        if channel["type"] == "temporal" and "scale" in channel:
            assert channel["scale"]["type"] == "utc"
            assert "UTC" in channel["title"]


def test_running_minute_is_a_point_not_part_of_the_line() -> None:
    line, point = CHARTS["events"].to_dict()["layer"]
    last = f"{COUNTED['at'][-1].timestamp() * 1000:.0f}"
    assert line["mark"]["type"] == "line"
    assert line["transform"] == [{"filter": f"time(datum.at) < {last}"}]
    assert point["mark"]["type"] == "point"
    assert point["transform"] == [{"filter": f"time(datum.at) >= {last}"}]
    assert CHARTS["events, over"].to_dict()["mark"]["type"] == "line"


def test_engaged_listeners_stand_before_all_listeners_of_a_scope() -> None:
    behind, front = CHARTS["scopes"].to_dict()["layer"]
    assert behind["transform"] == [{"filter": "datum.kind == 'listeners'"}]
    assert front["transform"] == [{"filter": "datum.kind == 'engaged'"}]


def test_each_drop_off_is_a_rule_on_the_curve() -> None:
    spec = CHARTS["retention"].to_dict()
    area, rules = spec["layer"]
    assert area["encoding"]["y"]["scale"]["domain"] == [0, 1]
    assert [row["minute"] for row in spec["datasets"][rules["data"]["name"]]] == [1]


def test_speakers_stand_in_their_order_on_a_scale_to_one() -> None:
    spec = CHARTS["speakers"].to_dict()
    assert spec["encoding"]["x"]["scale"]["domain"] == [0, 1]
    assert spec["encoding"]["y"]["sort"] == {"field": "place", "op": "min"}
    assert [row["place"] for row in next(iter(spec["datasets"].values()))] == [0, 1]


def test_offline_chart_holds_the_metric_asked_for_only() -> None:
    data = next(iter(CHARTS["offline"].to_dict()["datasets"].values()))
    assert {row["metric"] for row in data} == {"ndcg_at_10"}
