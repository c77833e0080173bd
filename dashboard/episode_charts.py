"""The charts of one episode: its days, how far it is heard, and who speaks in it."""

from __future__ import annotations

import altair as alt
import polars as pl

from dashboard.charts import COLOURS, PANEL_HEIGHT, Chart, axis, colour_of, whole_axis


def days_of_episode(days: pl.DataFrame) -> Chart:
    """Downloads and streams a day, side by side."""
    kinds = ["downloads", "streams"]
    long = days.unpivot(on=kinds, index="day", variable_name="kind", value_name="count")
    chart: Chart = (
        alt.Chart(long)
        .mark_bar(cornerRadiusEnd=2)
        .encode(
            x=alt.X(
                "utcyearmonthdate(day):O",
                title="day, UTC",
                axis=alt.Axis(
                    grid=False, labelOverlap=True, labelAngle=0, format="%b %d", ticks=False
                ),
            ),
            xOffset=alt.XOffset("kind:N", sort=kinds),
            y=alt.Y("count:Q", title="downloads, streams", axis=whole_axis()),
            color=colour_of("kind", kinds, "square"),
            tooltip=[
                alt.Tooltip("utcyearmonthdate(day):O", title="day", format="%Y-%m-%d"),
                alt.Tooltip("kind:N"),
                alt.Tooltip("count:Q", format=","),
            ],
        )
        .properties(height=PANEL_HEIGHT)
    )
    return chart


def retention(curve: pl.DataFrame, drops: pl.DataFrame) -> Chart:
    """Share of the listeners who heard each minute, and a rule at each drop-off.

    ``curve`` and ``drops`` as from ``dashboard.retention``.
    """
    colour = COLOURS["completes"]
    x = alt.X("minute:Q", title="minute of the episode", axis=whole_axis(grid=False))
    y = alt.Y(
        "share:Q",
        title="share of the listeners",
        scale=alt.Scale(domain=[0, 1]),
        axis=axis("%"),
    )
    area = (
        alt.Chart(curve)
        .mark_area(
            interpolate="step-after",
            line={"color": colour, "strokeWidth": 2},
            color=colour,
            fillOpacity=0.15,
        )
        .encode(
            x=x,
            y=y,
            tooltip=[
                alt.Tooltip("minute:Q"),
                alt.Tooltip("share:Q", format=".0%"),
                alt.Tooltip("listeners:Q", format=","),
            ],
        )
    )
    rules = (
        alt.Chart(drops)
        .mark_rule(color="#e11d48", strokeWidth=1.5, strokeDash=[4, 3])
        .encode(
            x="minute:Q",
            tooltip=[
                alt.Tooltip("minute:Q"),
                alt.Tooltip("lost:Q", title="lost", format=","),
                alt.Tooltip("share:Q", title="share lost", format=".0%"),
            ],
        )
    )
    return alt.layer(area, rules).properties(height=PANEL_HEIGHT)


def speakers(shares: pl.DataFrame, share_of: str) -> Chart:
    """Who speaks how much, as bars.

    ``shares`` as from ``analysis.speaker_shares``, of the ``share_of``: "time" or "words".
    """
    chart: Chart = (
        alt.Chart(shares.with_row_index("place"))
        .mark_bar(color=COLOURS["plays"], height={"band": 0.62}, cornerRadiusEnd=2)
        .encode(
            x=alt.X(
                "share:Q",
                title=f"share of the {share_of}",
                scale=alt.Scale(domain=[0, 1]),
                axis=axis("%"),
            ),
            y=alt.Y(
                "label:N",
                sort=alt.EncodingSortField("place", op="min"),
                title=None,
                axis=alt.Axis(labelLimit=165, labelOverlap=False, ticks=False, domain=False),
            ),
            tooltip=[
                alt.Tooltip("label:N", title="speaker"),
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
        .properties(height=28 * max(len(shares), 1) + 50)
    )
    return chart
