"""The Grafana dashboard, the rules of Prometheus and the page of reference. Deterministic."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

import yaml

from topology.monitoring.alerts import ALERTS
from topology.monitoring.metrics import METRICS
from topology.monitoring.model import Alert, Metric

ACTIONS = "docs/generated/monitoring.md#alerts"
"""Where each alert has its line."""

_MADE = "Made by `podstream topology render`; edit topology/monitoring/ instead."
_UNITS = {"seconds": "s", "bytes": "bytes"}
_PANEL_WIDTH, _PANEL_HEIGHT, _DASHBOARD_WIDTH = 8, 7, 24


def subjects(metrics: Iterable[Metric] = METRICS) -> dict[str, list[Metric]]:
    """The metrics of each subject, in declared order."""
    found: dict[str, list[Metric]] = {}
    for metric in metrics:
        found.setdefault(metric.subject, []).append(metric)
    return found


# -- Grafana -------------------------------------------------------------------------------------


def dashboard() -> str:
    """A dashboard of Grafana, as JSON: a row for each subject, a panel for each metric."""
    ids = count(1)
    panels, top = [_firing(next(ids))], _PANEL_HEIGHT
    for subject, metrics in subjects().items():
        panels.append(_row(next(ids), subject, top))
        top += 1
        for place, metric in enumerate(metrics):
            line, column = divmod(place, _DASHBOARD_WIDTH // _PANEL_WIDTH)
            panels.append(
                _panel(next(ids), metric, column * _PANEL_WIDTH, top + line * _PANEL_HEIGHT)
            )
        top += -(-len(metrics) // (_DASHBOARD_WIDTH // _PANEL_WIDTH)) * _PANEL_HEIGHT
    made = {
        "title": "Podstream",
        "uid": "podstream",
        "description": _MADE,
        "tags": ["podstream"],
        "editable": False,
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
        },
        "panels": panels,
    }
    return json.dumps(made, indent=1) + "\n"


def _source() -> dict[str, str]:
    return {"type": "prometheus", "uid": "${datasource}"}


def _firing(number: int) -> dict[str, Any]:
    expression = 'ALERTS{alertname=~"Podstream.*", alertstate="firing"}'
    return {
        "id": number,
        "type": "table",
        "title": "Alerts that fire",
        "datasource": _source(),
        "gridPos": {"x": 0, "y": 0, "w": _DASHBOARD_WIDTH, "h": _PANEL_HEIGHT},
        "targets": [{"refId": "A", "expr": expression, "format": "table", "instant": True}],
    }


def _row(number: int, title: str, top: int) -> dict[str, Any]:
    place = {"x": 0, "y": top, "w": _DASHBOARD_WIDTH, "h": 1}
    return {"id": number, "type": "row", "title": title, "gridPos": place, "panels": []}


def _panel(number: int, metric: Metric, left: int, top: int) -> dict[str, Any]:
    unit = _UNITS.get(metric.unit, "short")
    target = {
        "refId": "A",
        "expr": metric.query(),
        "legendFormat": " ".join(f"{{{{{label}}}}}" for label in metric.labels) or metric.name,
    }
    return {
        "id": number,
        "type": "timeseries",
        "title": _title(metric),
        "description": metric.doc,
        "datasource": _source(),
        "gridPos": {"x": left, "y": top, "w": _PANEL_WIDTH, "h": _PANEL_HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [target],
    }


def _title(metric: Metric) -> str:
    shown = {"counter": f"{metric.unit} a second", "histogram": "p99"}.get(metric.kind, metric.unit)
    name = metric.name.removeprefix("podstream_").removesuffix("_total").replace("_", " ")
    return f"{name} ({shown})" if shown else name


# -- Prometheus ----------------------------------------------------------------------------------


def rules() -> str:
    """The alert rules, as YAML that Prometheus reads."""
    group = {"name": "podstream", "rules": [_rule(alert) for alert in ALERTS]}
    text = yaml.safe_dump({"groups": [group]}, sort_keys=False, width=100, allow_unicode=True)
    return f"# {_MADE}\n{text}"


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.lasts,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "runbook": ACTIONS},
    }


# -- Markdown ------------------------------------------------------------------------------------


def metrics_table(metrics: Sequence[Metric]) -> list[tuple[str, ...]]:
    """Rows of the reference: name, kind, labels, unit, alerts, meaning."""
    return [
        (
            f"`{metric.name}`",
            metric.kind,
            ", ".join(f"`{label}`" for label in metric.labels),
            metric.unit,
            ", ".join(f"`{a.name}`" for a in ALERTS if metric.name in a.metrics()),
            metric.doc,
        )
        for metric in metrics
    ]


def alerts_table() -> list[tuple[str, ...]]:
    """Rows of the reference, which lies a folder below what actions link to: name, severity, the
    condition and how long it has to hold, what is said, what to do."""
    return [
        (
            f"`{alert.name}`",
            alert.severity,
            f"`{alert.expression}`",
            alert.lasts,
            alert.summary,
            alert.action.replace("](", "](../"),
        )
        for alert in ALERTS
    ]
