"""Live: the last minutes of engagement, once a second."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl
import streamlit as st

from dashboard import charts, queries, sources

WINDOWS = {"5 min": 5, "15 min": 15, "60 min": 60, "24 h": 24 * 60}
SCOPE_NAMES = {"all": "Everything"}


@dataclass(frozen=True)
class View:
    """One answer: everything on the page, read together."""

    window: queries.Window
    every_minutes: int
    counts: pl.DataFrame
    active: int
    top: pl.DataFrame
    trending: pl.DataFrame
    newest: datetime | None


def read_view(minutes: int) -> View | None:
    """Ask MongoDB for the page; None where no event was ever counted."""
    database = sources.database()
    now = sources.now()
    window = queries.rolling_window(database, minutes, now)
    if window is None:
        return None
    every = 1 if minutes <= 60 else 10
    return View(
        window=window,
        every_minutes=every,
        counts=queries.counts_over_time(database, window, every),
        active=queries.active_episodes(database, window),
        top=queries.top_episodes(database, window),
        trending=queries.trending(database),
        newest=queries.newest_update(database) or queries.newest_bucket(database),
    )


def show_numbers(view: View) -> None:
    """The totals of the window, each with its course over the minutes that are over."""
    totals = {name: int(view.counts[name].sum()) for name in queries.COUNTS}
    over = view.counts if view.window.historic else view.counts[:-1]
    hours = totals["heard_ms"] / 3_600_000
    minutes = totals["heard_ms"] / 60_000
    shown = [
        (
            "Impressions",
            f"{totals['impressions']:,}",
            f"{totals['impressions'] / view.window.minutes:,.0f} a minute",
            "Times shown.",
        ),
        (
            "Clicks",
            f"{totals['clicks']:,}",
            share(totals, "clicks", "impressions"),
            "Times opened.",
        ),
        ("Plays", f"{totals['plays']:,}", share(totals, "plays", "clicks"), "Times started."),
        (
            "Completes",
            f"{totals['completes']:,}",
            share(totals, "completes", "plays"),
            "Times heard to the end.",
        ),
        (
            "Hours heard",
            f"{hours:,.1f}",
            f"{minutes / totals['plays']:,.1f} min a play" if totals["plays"] else None,
            "Audio heard, hours.",
        ),
    ]
    columns = st.columns(len(shown) + 1)
    for column, name, (label, value, note, help_text) in zip(
        columns, queries.COUNTS, shown, strict=False
    ):
        column.metric(
            label,
            value,
            note,
            delta_color="violet",
            delta_arrow="off",
            border=True,
            help=help_text,
            chart_data=over[name],
            chart_type="area",
            height="stretch",
        )
    with columns[-1]:
        st.metric(
            "Active episodes",
            f"{view.active:,}",
            border=True,
            help="Episodes that something happened to within the window.",
        )
        st.metric(
            "Freshness",
            sources.ago(view.newest, sources.now()),
            border=True,
            help="Age of the newest event that has come all the way through to a recommendation, "
            "by the broker's clock; before the first one, of the newest minute with an event.",
        )


def share(totals: dict[str, int], part: str, whole: str) -> str | None:
    """``part`` as a share of ``whole``, in words."""
    return f"{totals[part] / totals[whole]:.0%} of {whole}" if totals[whole] else None


def show_top(view: View) -> None:
    """The most played episodes of the window."""
    st.subheader("Top episodes", anchor=False)
    if view.top.is_empty():
        st.caption("No plays within this window.")
        return
    table = view.top.select(
        "title",
        "show",
        "plays",
        (100 * pl.col("clicks") / pl.col("impressions")).fill_nan(None).alias("ctr"),
        (100 * pl.col("completes") / pl.col("plays")).fill_nan(None).alias("completion"),
        (pl.col("heard_ms") / 3_600_000).alias("hours"),
    )
    st.dataframe(
        table,
        hide_index=True,
        height=458,
        column_config={
            "title": st.column_config.TextColumn("Episode", width=290),
            "show": st.column_config.TextColumn("Show", width=120),
            "plays": st.column_config.ProgressColumn(
                "Plays",
                format="localized",
                width=110,
                min_value=0,
                max_value=max(table["plays"].to_list()),
            ),
            "ctr": st.column_config.NumberColumn(
                "Clicked", format="%.0f %%", width=68, help="Clicks per impression."
            ),
            "completion": st.column_config.NumberColumn(
                "Finished", format="%.0f %%", width=68, help="Completes per play."
            ),
            "hours": st.column_config.NumberColumn("Hours", format="%.1f", width=58),
        },
    )


def show_trending(view: View) -> None:
    """The ranking of one scope."""
    st.subheader("Trending", anchor=False)
    scopes = view.trending["scope"].unique(maintain_order=True).to_list()
    if not scopes:
        st.caption("No ranking yet: it comes a moment after the first plays.")
        return
    scope = st.selectbox(
        "Scope",
        scopes,
        format_func=lambda name: SCOPE_NAMES.get(name, name.removeprefix("category:")),
        label_visibility="collapsed",
        key="scope",
    )
    ranked = view.trending.filter(pl.col("scope") == scope)
    st.dataframe(
        ranked.select("place", "title", "score", "plays"),
        hide_index=True,
        height=405,
        column_config={
            "place": st.column_config.NumberColumn("#", width=36),
            "title": st.column_config.TextColumn("Episode", width=245),
            "score": st.column_config.ProgressColumn(
                "Score",
                width=110,
                format="%.1f",
                min_value=0.0,
                max_value=max(ranked["score"].to_list()),
                help="Time-decayed engagement.",
            ),
            "plays": st.column_config.NumberColumn("Plays", format="localized", width=60),
        },
    )


@st.fragment(run_every=1)
def live() -> None:
    """The page, once a second."""
    head, chooser = st.columns([3, 2], vertical_alignment="bottom")
    head.title("Live", anchor=False)
    with chooser.container(horizontal_alignment="right"):
        label = st.segmented_control(
            "Window",
            list(WINDOWS),
            default="15 min",
            label_visibility="collapsed",
            required=True,
            key="window",
        )
    minutes = WINDOWS[label or "15 min"]
    with sources.mongo_answers():
        view = sources.paced().get(("live", minutes), lambda: read_view(minutes))
    if view is None:
        st.info(
            "No events yet: the numbers appear here a moment after the first listener event. "
            "`podstream up --demo` simulates listeners, `podstream import events FILE` brings "
            "your own.",
            icon=":material/hourglass_empty:",
        )
        return
    if view.window.historic:
        head.caption(
            f":material/history: Event time: nothing happened in the last {label}, so these are "
            f"the {label} up to the newest event, "
            f"{view.window.start:%Y-%m-%d %H:%M} to {view.window.end:%Y-%m-%d %H:%M} UTC."
        )
    else:
        head.caption(
            f":green[:material/sensors:] The last {label}, event time, "
            f"{view.window.start:%H:%M} to {view.window.end:%H:%M} UTC, updated each second."
        )
    show_numbers(view)
    running = not view.window.historic
    left, right = st.columns([3, 2])
    with left.container(border=True, height="stretch"):
        st.markdown("**Clicks, plays and completes**")
        st.altair_chart(
            charts.events_over_time(view.counts, view.every_minutes, running), key="events"
        )
    with right.container(border=True, height="stretch"):
        st.markdown("**Audio heard**")
        st.altair_chart(
            charts.heard_over_time(view.counts, view.every_minutes, running), key="heard"
        )
    left, right = st.columns([3, 2])
    with left:
        show_top(view)
    with right:
        show_trending(view)


live()
