"""History: DuckDB over the Delta tables."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import streamlit as st

from dashboard import charts, history, reach, sources, timeline, totals
from dashboard.choosing import choose

TOP_DAYS = {"1 day": 1, "7 days": 7, "28 days": 28}
WEEK = timedelta(days=7)
REACH_DAYS = {"1 day": 1, "7 days": 7, "28 days": 28}
WINDOWS = {"5 min": 5, "15 min": 15, "60 min": 60, "24 h": 24 * 60}


@st.cache_data(ttl=10, show_spinner=False)
def read_sizes() -> pl.DataFrame:
    """Rows, files and bytes of every table."""
    return history.table_sizes(sources.delta_root())


@st.cache_data(ttl=10, show_spinner=False)
def read_days() -> pl.DataFrame | None:
    """Plays and hours by day; None before the table is written."""
    opened = history.open_history(sources.delta_root(), ("user_vs_episode_daily",))
    return history.plays_per_day(opened) if opened.has("user_vs_episode_daily") else None


@st.cache_data(ttl=10, show_spinner=False)
def read_top(days: int) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """Top listeners and top episodes of the newest days; None before there is any listening."""
    opened = history.open_history(sources.delta_root(), ("user_vs_episode_daily", "episodes"))
    if not opened.has("user_vs_episode_daily"):
        return None
    since = history.last_days(opened, days)
    if since is None:
        return None
    return history.top_listeners(opened, since), history.top_episodes(opened, since)


@st.cache_data(ttl=10, show_spinner=False)
def read_week(served_by: str) -> pl.DataFrame | None:
    """The seven days up to the newest event, hour by hour; None before the first event.

    ``served_by``: the database whose hours are joined to Delta's.
    """
    database = sources.database(served_by)
    newest = totals.newest_minute(database)
    if newest is None:
        return None
    end = newest.replace(minute=0) + totals.HOUR
    start = end - WEEK
    served = totals.served(database, max(start, timeline.served_from(end)), end)
    opened = history.open_history(sources.delta_root(), timeline.TABLES)
    counted = timeline.hours(opened, served, start, end)
    return totals.filled(counted, start, end, totals.HOUR)


@st.cache_data(ttl=10, show_spinner=False)
def read_recent(minutes: int) -> tuple[datetime, pl.DataFrame, pl.DataFrame] | None:
    """The newest event's time, then kinds and rows of the ``minutes`` up to it."""
    opened = history.open_history(sources.delta_root(), ("user_events",))
    newest = history.newest_event(opened) if opened.has("user_events") else None
    if newest is None:
        return None
    since = newest - timedelta(minutes=minutes)
    return newest, history.events_by_kind(opened, since), history.recent_events(opened, since)


@st.cache_data(ttl=60, show_spinner=False)
def read_reach(days: int) -> pl.DataFrame | None:
    """Distinct listeners over finished days; None before the first day is over."""
    opened = history.open_history(sources.delta_root(), ("audience_daily", "episodes"))
    if not opened.has("audience_daily"):
        return None
    table = reach.reach_table(opened, days)
    return None if table.is_empty() else table


def show_days(days: pl.DataFrame) -> None:
    """Plays and hours a day."""
    left, right = st.columns(2)
    with left.container(border=True):
        st.subheader("Plays per day", anchor=False)
        st.altair_chart(charts.per_day(days, "plays", "plays", charts.COLOURS["plays"]))
    with right.container(border=True):
        st.subheader("Hours heard per day", anchor=False)
        st.altair_chart(charts.per_day(days, "hours", "hours", charts.COLOURS["completes"]))


def show_week() -> None:
    """The last week by the hour, from both stores."""
    with sources.mongo_answers(), sources.delta_answers():
        week = read_week(sources.served())
    if week is None:
        return
    st.subheader("The last seven days", anchor=False)
    st.caption(
        "Hour by hour up to the newest event: the newest from MongoDB, older ones from Delta."
    )
    left, right = st.columns([3, 2])
    with left.container(border=True):
        st.altair_chart(charts.events_over_time(week, 60, running=True), key="week-events")
    with right.container(border=True):
        st.altair_chart(charts.heard_over_time(week, 60, running=True), key="week-heard")


def show_top() -> None:
    """Who heard the most, and what was heard the most, in the newest days."""
    _, label = choose("Top listeners and episodes", "Days", TOP_DAYS, "28 days", "top-days")
    with sources.delta_answers():
        top = read_top(TOP_DAYS[label])
    if top is None:
        return
    listeners, episodes = top
    counts = {
        "plays": st.column_config.NumberColumn("Plays", format="localized", width="small"),
        "completes": st.column_config.NumberColumn("Completes", format="localized", width="small"),
        "hours": st.column_config.NumberColumn("Hours", format="%.1f", width="small"),
    }
    left, right = st.columns(2)
    with left:
        st.dataframe(
            listeners,
            hide_index=True,
            column_config={
                **counts,
                "user_id": "Listener",
                "episodes": st.column_config.NumberColumn(
                    "Episodes", format="localized", width="small"
                ),
            },
        )
    with right:
        st.dataframe(
            episodes.select("title", "plays", "completes", "hours", "listeners"),
            hide_index=True,
            column_config={
                **counts,
                "title": st.column_config.TextColumn("Episode", width="medium"),
                "listeners": st.column_config.NumberColumn(
                    "Listeners", format="localized", width="small"
                ),
            },
        )


def show_reach() -> None:
    """Distinct listeners of shows and categories over finished days."""
    _, label = choose("Reach", "Days", REACH_DAYS, "7 days", "reach-days")
    with sources.delta_answers():
        table = read_reach(REACH_DAYS[label])
    if table is None:
        st.caption("Distinct listeners over days: told once the first UTC day is over.")
        return
    st.caption("Distinct listeners over finished UTC days, estimated to about 1.6 %.")
    st.dataframe(
        table.select("title", "kind", "listeners", "least", "most", "days"),
        hide_index=True,
        column_config={
            "title": st.column_config.TextColumn("Show or category", width="medium"),
            "kind": st.column_config.TextColumn("Kind", width="small"),
            "listeners": st.column_config.NumberColumn("Listeners", format="localized"),
            "least": st.column_config.NumberColumn("At least", format="localized"),
            "most": st.column_config.NumberColumn("At most", format="localized"),
            "days": st.column_config.NumberColumn("Days heard", format="localized"),
        },
    )


def show_recent() -> None:
    """The last minutes of events as they were written."""
    head, label = choose("Last events", "Window", WINDOWS, "15 min", "history-window")
    with sources.delta_answers():
        recent = read_recent(WINDOWS[label])
    if recent is None:
        st.caption("No events in Delta yet: they are written every few seconds.")
        return
    newest, kinds, rows = recent
    head.caption(
        f"The {label} up to the newest event in Delta, event time: {sources.stamp(newest)}. "
        f"{int(kinds['events'].sum()):,} events, the newest {len(rows):,} below."
    )
    left, right = st.columns([1, 2])
    with left.container(border=True):
        st.altair_chart(charts.by_kind(kinds))
    right.dataframe(
        rows.with_columns(
            heard_s=pl.col("heard_ms") / 1000, position_s=pl.col("position_ms") / 1000
        ).drop("heard_ms", "position_ms"),
        hide_index=True,
        height=340,
        column_config={
            "occurred_at": st.column_config.DatetimeColumn(
                "Occurred, UTC", timezone="UTC", format="YYYY-MM-DD HH:mm:ss"
            ),
            "kind": st.column_config.TextColumn("Event", width="small"),
            "user_id": "Listener",
            "episode_id": "Episode",
            "surface": "Surface",
            "rank": st.column_config.NumberColumn("Place", width="small"),
            "heard_s": st.column_config.NumberColumn("Heard, s", format="%.0f", width="small"),
            "position_s": st.column_config.NumberColumn("At, s", format="%.0f", width="small"),
        },
    )


def show_sizes(sizes: pl.DataFrame) -> None:
    """Rows of every table."""
    st.subheader("Tables", anchor=False)
    st.dataframe(
        sizes.with_columns(pl.col("bytes") / 1e6),
        hide_index=True,
        column_config={
            "table": st.column_config.TextColumn("Table", width="medium"),
            "rows": st.column_config.NumberColumn("Rows", format="localized", width="small"),
            "files": st.column_config.NumberColumn("Files", format="localized", width="small"),
            "bytes": st.column_config.NumberColumn("Size, MB", format="%.2f", width="small"),
            "version": st.column_config.NumberColumn("Version", format="localized", width="small"),
            "doc": st.column_config.TextColumn("What it holds", width="large"),
        },
    )


@st.fragment(run_every=10)
def show_history() -> None:
    """The page, every ten seconds."""
    st.title("History", anchor=False)
    st.caption("Delta tables, read in place by DuckDB.")
    with sources.delta_answers():
        days = read_days()
    if days is None or days.is_empty():
        st.info(
            "No history yet: listening is written to Delta every few seconds once there are "
            "events.",
            icon=":material/hourglass_empty:",
        )
    else:
        show_days(days)
    show_week()
    show_reach()
    show_recent()
    show_top()
    with sources.delta_answers():
        sizes = read_sizes()
    show_sizes(sizes)


show_history()
