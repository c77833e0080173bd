"""The dashboard's charts: altair specifications made of frames.

Every axis has a unit; times are UTC.
"""

from __future__ import annotations

import altair as alt
import polars as pl

COLOURS = {
    "impressions": "#64748b",
    "clicks": "#f59e0b",
    "plays": "#4f46e5",
    "completes": "#0d9488",
    "als": "#4f46e5",
    "content": "#0d9488",
    "trending": "#f59e0b",
    "ranked": "#a21caf",
    "two_stage": "#a21caf",
    "item_item": "#0d9488",
    "popularity": "#94a3b8",
    "blend": "#4f46e5",
    "listeners": "#a5b4fc",
    "engaged": "#4f46e5",
    "downloads": "#4f46e5",
    "streams": "#0d9488",
}
PARTS = ("als", "content", "trending", "ranked")
OFFLINE_MODELS = ("two_stage", "item_item", "als", "popularity")
METRIC_NAMES = {
    "ndcg_at_10": "nDCG@10",
    "recall_at_10": "Recall@10",
    "map_at_10": "MAP@10",
    "coverage": "Coverage",
}
PANEL_HEIGHT = 215
# the day where a day begins, else the time on a 24-hour clock
_CLOCK = (
    "utchours(datum.value) + utcminutes(datum.value) == 0"
    " ? utcFormat(datum.value, '%b %d') : utcFormat(datum.value, '%H:%M')"
)
_FRACTION = ".2~f"

Chart = alt.Chart | alt.LayerChart | alt.FacetChart


def events_over_time(counts: pl.DataFrame, every_minutes: int, running: bool) -> Chart:
    """Clicks, plays and completes as lines; ``counts`` as from ``counts_over_time``.

    ``running``: the last span is not over, so it is a hollow point and not part of a line.
    """
    kinds = ["clicks", "plays", "completes"]
    long = counts.unpivot(on=kinds, index="at", variable_name="kind", value_name="events")
    base = alt.Chart(long).encode(
        x=_time(),
        y=alt.Y("events:Q", title=f"events per {_span(every_minutes)}", axis=axis()),
        color=colour_of("kind", kinds),
        tooltip=[
            _time_tooltip(),
            alt.Tooltip("kind:N", title="event"),
            alt.Tooltip("events:Q", format=","),
        ],
    )
    line = base.mark_line(interpolate="monotone", strokeWidth=2)
    return _with_running(base, line, counts, running).properties(height=PANEL_HEIGHT)


def heard_over_time(counts: pl.DataFrame, every_minutes: int, running: bool) -> Chart:
    """Audio heard as an area, in hours; ``running`` as for ``events_over_time``."""
    frame = counts.select("at", hours=pl.col("heard_ms") / 3_600_000)
    colour = COLOURS["completes"]
    base = alt.Chart(frame).encode(
        x=_time(),
        y=alt.Y("hours:Q", title=f"hours per {_span(every_minutes)}", axis=axis()),
        color=alt.value(colour),
        tooltip=[_time_tooltip(), alt.Tooltip("hours:Q", title="hours heard", format=",.2f")],
    )
    area = base.mark_area(
        interpolate="monotone", line={"color": colour, "strokeWidth": 2}, fillOpacity=0.15
    )
    return _with_running(base, area, counts, running).properties(height=PANEL_HEIGHT)


def scope_bars(scopes: pl.DataFrame) -> Chart:
    """Distinct listeners of each scope as bars, the engaged ones among them in front.

    ``scopes`` as from ``live_tables.rolling``, best first.
    """
    numbered = scopes.with_row_index("place", 1).with_columns(
        label=pl.format("{}. {}", "place", "title")
    )
    kinds = ["listeners", "engaged"]
    long = numbered.unpivot(
        on=kinds, index=["place", "label"], variable_name="kind", value_name="distinct"
    )
    base = alt.Chart(long).encode(
        x=alt.X("distinct:Q", title="distinct listeners", stack=None, axis=whole_axis()),
        y=alt.Y(
            "label:N",
            sort=alt.EncodingSortField("place", op="min"),
            title=None,
            axis=alt.Axis(labelLimit=165, labelOverlap=False, ticks=False, domain=False),
        ),
        color=colour_of("kind", kinds, "square"),
        tooltip=[
            alt.Tooltip("label:N", title="scope"),
            alt.Tooltip("kind:N"),
            alt.Tooltip("distinct:Q", format=","),
        ],
    )
    # two layers, so that a few engaged ones are never hidden behind the listeners
    bars = (
        base.transform_filter(f"datum.kind == '{kind}'").mark_bar(
            height={"band": 0.62}, cornerRadiusEnd=2
        )
        for kind in kinds
    )
    return alt.layer(*bars).properties(height=30 * max(len(scopes), 1) + 60)


def score_parts(items: pl.DataFrame) -> Chart:
    """The parts of each item's score stacked, and the score itself as a tick."""
    labels = items.with_columns(label=pl.format("{}. {}", "place", "title"))
    long = labels.unpivot(
        on=list(PARTS), index=["place", "label", "score"], variable_name="part", value_name="value"
    )
    y = alt.Y(
        "label:N",
        sort=alt.EncodingSortField("place", op="min"),
        title=None,
        axis=alt.Axis(labelLimit=260, labelOverlap=False, ticks=False, domain=False),
    )
    bars = (
        alt.Chart(long)
        .mark_bar(height={"band": 0.62}, cornerRadius=2)
        .encode(
            x=alt.X(
                "value:Q", title="parts, each 0 to 1, stacked", stack="zero", axis=axis(_FRACTION)
            ),
            y=y,
            color=colour_of("part", list(PARTS), "square"),
            order=alt.Order("part_order:Q"),
            tooltip=[
                alt.Tooltip("label:N", title="episode"),
                alt.Tooltip("part:N"),
                alt.Tooltip("value:Q", format=".3f"),
                alt.Tooltip("score:Q", title="score", format=".3f"),
            ],
        )
        .transform_calculate(part_order=f"indexof({list(PARTS)}, datum.part)")
    )
    ticks = (
        alt.Chart(labels)
        .mark_tick(thickness=3, color="#e11d48", height=20)
        .encode(x="score:Q", y=y, tooltip=[alt.Tooltip("score:Q", format=".3f")])
    )
    return alt.layer(bars, ticks).properties(height=26 * max(len(items), 1) + 60)


def offline_metric(metrics: pl.DataFrame, metric: str) -> alt.Chart:
    """One offline figure over generations, model by model."""
    frame = metrics.filter(pl.col("metric") == metric)
    models = [m for m in OFFLINE_MODELS if m in frame["model"].unique().to_list()]
    chart: alt.Chart = (
        alt.Chart(frame)
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=45, filled=True))
        .encode(
            x=_time("generation published, UTC"),
            y=alt.Y("value:Q", title=METRIC_NAMES.get(metric, metric), axis=axis(_FRACTION)),
            color=colour_of("model", models),
            tooltip=[
                alt.Tooltip("model:N"),
                alt.Tooltip("generation:N"),
                _time_tooltip(),
                alt.Tooltip("value:Q", format=".4f"),
            ],
        )
        .properties(height=215)
    )
    return chart


def online_metric(metrics: pl.DataFrame, metric: str, title: str, chance: float) -> Chart:
    """A prequential figure of the blend over time, what guessing gets, and drift as rules.

    ``metrics`` as from ``online_metrics``.
    """
    frame = metrics.filter(pl.col("metric") == metric)
    drift = metrics.filter((pl.col("metric") == "drift") & (pl.col("value") > 0))
    line = (
        alt.Chart(frame)
        .mark_line(color=COLOURS["blend"], strokeWidth=2)
        .encode(
            x=_time("log time, UTC"),
            y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False), axis=axis(_FRACTION)),
            tooltip=[_time_tooltip(), alt.Tooltip("value:Q", title=title, format=".4f")],
        )
    )
    guess = (
        alt.Chart(pl.DataFrame({"chance": [chance]}))
        .mark_rule(strokeDash=[4, 4], color=COLOURS["popularity"])
        .encode(y="chance:Q", tooltip=[alt.Tooltip("chance:Q", title="guessing", format=".3f")])
    )
    rules = (
        alt.Chart(drift)
        .mark_rule(color="#e11d48", strokeWidth=1.5)
        .encode(x="at:T", tooltip=[_time_tooltip("drift found, UTC")])
    )
    return alt.layer(guess, rules, line).properties(height=270)


def per_day(days: pl.DataFrame, column: str, title: str, colour: str) -> alt.Chart:
    """A daily amount as bars."""
    chart: alt.Chart = (
        alt.Chart(days)
        .mark_bar(color=colour, cornerRadiusEnd=2, binSpacing=1)
        .encode(
            x=alt.X(
                "yearmonthdate(day):T",
                title="day, UTC",
                scale=alt.Scale(type="utc"),
                axis=alt.Axis(grid=False, labelOverlap=True, tickCount=8),
            ),
            y=alt.Y(f"{column}:Q", title=title, axis=axis()),
            tooltip=[
                alt.Tooltip("utcyearmonthdate(day):T", title="day"),
                alt.Tooltip(f"{column}:Q", title=title, format=",.1f"),
            ],
        )
        .properties(height=230)
    )
    return chart


def by_kind(kinds: pl.DataFrame) -> alt.Chart:
    """Events of each kind as bars."""
    chart: alt.Chart = (
        alt.Chart(kinds)
        .mark_bar(color=COLOURS["plays"], cornerRadiusEnd=2, height={"band": 0.65})
        .encode(
            x=alt.X("events:Q", title="events", axis=axis()),
            y=alt.Y("kind:N", sort="-x", title=None, axis=alt.Axis(ticks=False, domain=False)),
            tooltip=[
                alt.Tooltip("kind:N"),
                alt.Tooltip("events:Q", format=","),
                alt.Tooltip("listeners:Q", format=","),
            ],
        )
        .properties(height=28 * max(len(kinds), 1) + 50)
    )
    return chart


def _with_running(base: alt.Chart, mark: alt.Chart, counts: pl.DataFrame, running: bool) -> Chart:
    """``mark`` over the spans that are over, and a hollow point of ``base`` for the running one."""
    if not running:
        return mark
    last = counts["at"][-1].timestamp() * 1000
    now = base.mark_point(size=55, strokeWidth=2, filled=False)
    return alt.layer(
        mark.transform_filter(f"time(datum.at) < {last:.0f}"),
        now.transform_filter(f"time(datum.at) >= {last:.0f}"),
    )


def _span(minutes: int) -> str:
    return "minute" if minutes == 1 else f"{minutes} minutes"


def _time(title: str = "event time, UTC") -> alt.X:
    return alt.X(
        "at:T",
        title=title,
        scale=alt.Scale(type="utc"),
        axis=alt.Axis(
            grid=False, labelOverlap=True, tickCount=8, tickMinStep=60_000, labelExpr=_CLOCK
        ),
    )


def _time_tooltip(title: str = "UTC") -> alt.Tooltip:
    return alt.Tooltip("at:T", title=title, format="%Y-%m-%d %H:%M", formatType="utc")


def axis(format: str = "~s") -> alt.Axis:
    """An axis of an amount."""
    return alt.Axis(tickCount=5, format=format, gridOpacity=0.5, domain=False, ticks=False)


def whole_axis(grid: bool = True) -> alt.Axis:
    """An axis of a count: no ticks between whole numbers."""
    return alt.Axis(
        tickCount=5,
        tickMinStep=1,
        format="~s",
        grid=grid,
        gridOpacity=0.5,
        domain=False,
        ticks=False,
    )


def colour_of(field: str, names: list[str], symbol: str = "stroke") -> alt.Color:
    """A colour for each of the ``names`` in a field, and a legend of them."""
    return alt.Color(
        f"{field}:N",
        scale=alt.Scale(domain=names, range=[COLOURS[name] for name in names]),
        legend=alt.Legend(title=None, orient="top", symbolType=symbol, symbolStrokeWidth=4),
    )
