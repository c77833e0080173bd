"""Metrics and alerts as they are declared, read as Prometheus and Grafana read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from tests.paths import ROOT
from topology.monitoring.alerts import ALERTS
from topology.monitoring.metrics import METRICS
from topology.monitoring.model import Alert, Metric
from topology.monitoring.render import dashboard, rules

DECLARED = {metric.name: metric for metric in METRICS}
OF_OTHERS = {"up", "process_start_time_seconds"}


def selectors(expression: Any) -> Iterator[Any]:
    """Every selection of a metric in an expression that was read."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for name in ("expr", "vector_selector", "lhs", "rhs"):
        if (inner := getattr(expression, name, None)) is not None:
            yield from selectors(inner)
    for argument in getattr(expression, "args", None) or ():
        yield from selectors(argument)


def test_names_are_unique_and_as_prometheus_wants_them() -> None:
    assert len(DECLARED) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"podstream_[a-z_]+[a-z]", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert metric.unit not in ("seconds", "bytes") or metric.unit in metric.name


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_what_the_dashboard_shows_of_a_metric_is_promql_of_its_own(metric: Metric) -> None:
    found = list(selectors(promql_parser.parse(metric.query())))
    suffix = "_bucket" if metric.kind == "histogram" else ""
    assert [one.name for one in found] == [f"{metric.name}{suffix}"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_asks_for_metrics_and_labels_that_there_are(alert: Alert) -> None:
    found = list(selectors(promql_parser.parse(alert.expression)))
    assert found
    for one in found:
        name = re.sub("_bucket$", "", one.name)
        assert name in DECLARED or name in OF_OTHERS
        if name in DECLARED:
            asked = {matcher.name for matcher in one.matchers.matchers}
            assert asked <= set(DECLARED[name].labels)
    assert alert.metrics() == {re.sub("_bucket$", "", one.name) for one in found} - OF_OTHERS
    named = set(re.findall(r"\$labels\.(\w+)", alert.summary))
    given = {label for name in alert.metrics() for label in DECLARED[name].labels}
    assert named <= given | {"instance"}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_what_an_alert_sends_people_to_is_there(alert: Alert) -> None:
    for path, anchor in re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", alert.action):
        text = (ROOT / "docs" / path).read_text()
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert not anchor or anchor in {
            re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings
        }


def test_the_rules_are_those_that_are_declared() -> None:
    (group,) = yaml.safe_load(rules())["groups"]
    assert [(r["alert"], r["expr"]) for r in group["rules"]] == [
        (alert.name, alert.expression) for alert in ALERTS
    ]
    assert all(re.fullmatch(r"\d+[mh]", rule["for"]) for rule in group["rules"])


def test_the_dashboard_has_a_panel_for_each_metric_and_none_lies_on_another() -> None:
    panels = json.loads(dashboard())["panels"]
    shown = [panel["description"] for panel in panels if panel["type"] == "timeseries"]
    assert sorted(shown) == sorted(metric.doc for metric in METRICS)
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
