"""Live: the last minutes of engagement, once a second."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
import streamlit as st
from pymongo.database import Database
from streamlit.elements.lib.column_types import ColumnConfig

from dashboard import charts, live_tables, queries, sources, totals
from dashboard.choosing import choose
from schemas.metrics import ADDITIVE_METRICS
from topology.settings import get_settings

WINDOWS = {"1 min": 1, "5 min": 5, "15 min": 15, "60 min": 60, "24 h": 24 * 60}
KINDS = {"Episodes": "episode", "Shows": "show", "Categories": "category"}
# one minute makes no line
SHORTEST_CHART_MINUTES = 5
BARS = 10
# for so long the choice of categories and languages stays as it is; a string would be shown
CHOICES_S = 10.0

DIRECTIONS = {"rise": "▲ rise", "fall": "▼ fall"}


@dataclass(frozen=True)
class View:
    """Everything that happened in the window, minute by minute; ``counts`` may reach back more."""

    window: totals.Window
    every_minutes: int
    counts: pl.DataFrame
    newest: datetime | None

    def totals(self) -> dict[str, int]:
        """The sums over the window alone."""
        within = self.counts.filter(pl.col("at") >= self.window.start)
        return {name: int(within[name].sum()) for name in ADDITIVE_METRICS}


def read_view(database: Database[dict[str, Any]], minutes: int) -> View | None:
    """Ask MongoDB for the window; None where no event was ever counted."""
    now = sources.now()
    window = totals.rolling_window(database, minutes, now)
    if window is None:
        return None
    drawn = window.at_least(SHORTEST_CHART_MINUTES)
    every = 1 if minutes <= 60 else 10
    return View(
        window=window,
        every_minutes=every,
        counts=totals.counts_over_time(database, drawn, every),
        newest=queries.newest_update(database) or totals.newest_minute(database),
    )


def read_scopes(kind: str, minutes: int) -> live_tables.Rolling | None:
    """The rolling window of a kind of scope; None before the first one is written."""
    with sources.mongo_answers():
        return sources.answer(
            ("rolling", kind, minutes), lambda db: live_tables.rolling(db, kind, minutes)
        )


def show_numbers(view: View, active: int) -> None:
    """The totals of the window, each with its course over the minutes that are over."""
    summed = view.totals()
    over = view.counts if view.window.historic else view.counts[:-1]
    hours = summed["heard_ms"] / 3_600_000
    minutes = summed["heard_ms"] / 60_000
    shown = [
        (
            "impressions",
            "Impressions",
            f"{summed['impressions']:,}",
            f"{summed['impressions'] / view.window.minutes:,.0f} a minute",
            "Times shown.",
        ),
        (
            "clicks",
            "Clicks",
            f"{summed['clicks']:,}",
            share(summed, "clicks", "impressions"),
            "Times opened.",
        ),
        (
            "plays",
            "Plays",
            f"{summed['plays']:,}",
            share(summed, "plays", "clicks"),
            "Times started.",
        ),
        (
            "streams",
            "Streams",
            f"{summed['streams']:,}",
            share(summed, "streams", "plays"),
            "Times a listener's session with an episode got to 60 seconds heard.",
        ),
        (
            "completes",
            "Completes",
            f"{summed['completes']:,}",
            share(summed, "completes", "plays"),
            "Times heard to the end.",
        ),
        (
            "heard_ms",
            "Hours heard",
            f"{hours:,.1f}",
            f"{minutes / summed['plays']:,.1f} min a play" if summed["plays"] else None,
            "Audio heard, hours.",
        ),
    ]
    columns = st.columns(len(shown) + 1)
    for column, (name, label, value, note, help_text) in zip(columns, shown, strict=False):
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
            f"{active:,}",
            border=True,
            help="Episodes that were shown or heard within the window up to the newest event.",
        )
        st.metric(
            "Freshness",
            sources.ago(view.newest, sources.now()),
            border=True,
            help="Age of the newest event that has come all the way through to a recommendation, "
            "by the broker's clock; before the first one, of the newest minute with an event.",
        )


def share(counts: dict[str, int], part: str, whole: str) -> str | None:
    """``part`` as a share of ``whole``, in words."""
    return f"{counts[part] / counts[whole]:.0%} of {whole}" if counts[whole] else None


def show_scopes(label: str, minutes: int) -> None:
    """The rolling window of every episode, show or category, most listeners first."""
    head, chosen = choose("Who is heard", "Scope", KINDS, "Episodes", "kind")
    kind = KINDS[chosen]
    found = read_scopes(kind, minutes)
    if found is None or found.scopes.is_empty():
        head.caption("Nothing was heard within this window.")
        return
    head.caption(
        f"Distinct listeners of the {label} up to {found.at:%Y-%m-%d %H:%M} UTC, event time. "
        "Known bots are not counted as listeners."
    )
    left, right = st.columns([2, 1])
    with left:
        show_scope_table(found.scopes, kind)
    with right.container(border=True, height="stretch"):
        st.altair_chart(charts.scope_bars(found.scopes.head(BARS)), key="scopes")


def show_scope_table(scopes: pl.DataFrame, kind: str) -> None:
    """One row a scope."""
    table = scopes.select(
        "title",
        *(["show"] if kind == "episode" else []),
        "listeners",
        "engaged",
        "streams",
        "plays",
        "completes",
        "clicks",
        "impressions",
        (pl.col("heard_ms") / 3_600_000).alias("hours"),
    )

    def count(name: str, help_text: str, width: int = 58) -> ColumnConfig:
        return st.column_config.NumberColumn(name, format="localized", width=width, help=help_text)

    st.dataframe(
        table,
        hide_index=True,
        height=420 if len(table) > 10 else "auto",
        column_config={
            "title": st.column_config.TextColumn(kind.capitalize(), width=195),
            "show": st.column_config.TextColumn("Show", width=95),
            "listeners": st.column_config.ProgressColumn(
                "Listeners",
                format="localized",
                width=92,
                min_value=0,
                max_value=max(1, *table["listeners"].to_list()),
                help="Distinct listeners.",
            ),
            "engaged": count(
                "Engaged", "Of them, who heard 20 minutes or 40 % in one session.", 68
            ),
            "streams": count("Streams", "Sessions that got to 60 seconds heard.", 64),
            "plays": count("Plays", "Times started."),
            "completes": count("Done", "Times heard to the end."),
            "clicks": count("Clicks", "Times opened."),
            "impressions": count("Shown", "Times shown.", 60),
            "hours": st.column_config.NumberColumn("Hours", format="%.1f", width=58),
        },
    )


def show_trending() -> None:
    """The ranking of one scope, and why each episode is in it."""
    st.subheader("Trending", anchor=False)
    with sources.mongo_answers():
        categories, languages = sources.answer("choices", live_tables.trending_choices, CHOICES_S)
    left, right = st.columns(2)
    category = left.selectbox(
        "Category",
        categories,
        index=None,
        placeholder="All categories",
        label_visibility="collapsed",
        key="category",
    )
    language = right.selectbox(
        "Language",
        languages,
        index=None,
        placeholder="All languages",
        label_visibility="collapsed",
        key="language",
    )
    scope = live_tables.scope_name(category, language)
    with sources.mongo_answers():
        ranked = sources.answer(("trending", scope), lambda db: live_tables.trending(db, scope))
    if ranked.is_empty():
        st.caption("No ranking: it comes a moment after the first new listeners.")
        return
    reasons = [live_tables.why(*row) for row in ranked.select("recent", "usual", "rise").rows()]
    st.dataframe(
        ranked.with_columns(why=pl.Series(reasons)).select("place", "title", "why", "score"),
        hide_index=True,
        height=405 if len(ranked) > 10 else "auto",
        column_config={
            "place": st.column_config.NumberColumn("#", width=36),
            "title": st.column_config.TextColumn("Episode", width=245),
            "why": st.column_config.TextColumn("Why", width=330),
            "score": st.column_config.ProgressColumn(
                "Score",
                width=100,
                format="%.1f",
                min_value=0.0,
                max_value=max(ranked["score"].to_list()),
                help="New listeners, each worth half as much after 30 minutes.",
            ),
        },
    )


def show_anomalies() -> None:
    """Episodes that were suddenly heard much more, or much less, than before."""
    st.subheader("Anomalies", anchor=False)
    with sources.mongo_answers():
        found = sources.answer("anomalies", live_tables.anomalies)
    if found.is_empty():
        st.caption(
            "None: no episode was suddenly played much more, or much less, than its own history "
            "lets expect."
        )
        return
    st.dataframe(
        found.select("at", pl.col("direction").replace(DIRECTIONS), "title", "plays", "expected"),
        hide_index=True,
        height=458 if len(found) > 8 else "auto",
        column_config={
            "at": st.column_config.DatetimeColumn(
                "UTC",
                timezone="UTC",
                format="MMM D, HH:mm",
                width=95,
                help="Start of the five minutes.",
            ),
            "direction": st.column_config.TextColumn("What", width=65),
            "title": st.column_config.TextColumn("Episode", width=185),
            "plays": st.column_config.NumberColumn(
                "Plays", format="localized", width=58, help="Plays in the five minutes."
            ),
            "expected": st.column_config.NumberColumn(
                "Expected", format="%.1f", width=72, help="Plays that its history lets expect."
            ),
        },
    )


def show_late() -> None:
    """How many events came too late for this page."""
    with sources.mongo_answers():
        partitions = get_settings().event_partitions
        late = sources.answer("late", lambda db: live_tables.late_events(db, partitions))
    allowed = get_settings().allowed_lateness_s / 60
    st.caption(
        f":material/schedule: **{late.late:,} late events** of {late.events:,}: they came more "
        f"than {allowed:g} minutes behind the newest one, so they are in no window on this page, "
        "but in the history of who heard what."
    )


@st.fragment(run_every=1)
def live() -> None:
    """The page, once a second."""
    head, label = choose("Live", "Window", WINDOWS, "15 min", "window", page=True)
    minutes = WINDOWS[label]
    with sources.mongo_answers():
        view = sources.answer(("live", minutes), lambda db: read_view(db, minutes))
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
        clock = "%H:%M" if view.window.start.date() == view.window.end.date() else "%b %d %H:%M"
        head.caption(
            f":green[:material/sensors:] The last {label}, event time, "
            f"{view.window.start:{clock}} to {view.window.end:{clock}} UTC, updated each second."
        )
    episodes = read_scopes("episode", minutes)
    show_numbers(view, episodes.active if episodes else 0)
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
    show_scopes(label, minutes)
    left, right = st.columns([8, 5])
    with left:
        show_trending()
    with right:
        show_anomalies()
    show_late()


live()
