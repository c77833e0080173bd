"""Episodes: the catalogue, what was said, and what was played."""

from __future__ import annotations

from functools import partial

import polars as pl
import streamlit as st

from dashboard import analysis, catalogue, history, sources
from dashboard.episode_panel import CHOSEN, show_episode

LIMIT = 300
TABLES = ("transcripts", "user_vs_episode_daily")


@st.cache_data(ttl=5, show_spinner=False)
def read_catalogue(
    served: str, text: str, category: str | None, topic_id: str | None
) -> tuple[int, list[str], pl.DataFrame]:
    """Size of the catalogue, its categories, and the episodes that match."""
    database = sources.database(served)
    opened = history.open_history(sources.delta_root(), catalogue.TABLES)
    search = catalogue.Search(text.strip(), category, topic_id)
    return (
        catalogue.episode_count(database),
        read_categories(served),
        catalogue.catalogue(database, opened, search, LIMIT),
    )


@st.cache_data(ttl=30, show_spinner=False)
def read_categories(served: str) -> list[str]:
    """The categories of the catalogue."""
    opened = history.open_history(sources.delta_root(), ("episodes",))
    return catalogue.categories(sources.database(served), opened)


@st.cache_data(ttl=10, show_spinner=False)
def read_topics() -> dict[str, str]:
    """The name of each topic, largest first."""
    opened = history.open_history(sources.delta_root(), ("episode_topics", "topics"))
    return analysis.topic_names(analysis.topics(opened))


@st.cache_data(ttl=10, show_spinner=False)
def read_history(episode_ids: list[str]) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Plays and transcripts of the episodes; transcripts by status, None without the table."""
    opened = history.open_history(sources.delta_root(), TABLES)
    counts = history.transcript_counts(opened) if opened.has("transcripts") else None
    return history.plays_and_transcripts(opened, episode_ids), counts


def show_numbers(total: int, transcripts: pl.DataFrame | None) -> None:
    """The size of the catalogue and of its transcripts."""
    columns = st.columns(4)
    columns[0].metric("Episodes", f"{total:,}", border=True)
    if transcripts is None:
        columns[1].metric("With transcript", "n/a", border=True, help="Not in Delta yet.")
        return
    good = transcripts.filter(pl.col("status") == "ok")
    bad = transcripts.filter(pl.col("status").is_in(["refused", "failed"]))
    words = int(good["words"].sum())
    read = int(good["episodes"].sum())
    columns[1].metric("With transcript", f"{read:,}", border=True)
    columns[2].metric(
        "Refused or failed",
        f"{int(bad['episodes'].sum()):,}",
        border=True,
        help="Transcripts on offer that could not be fetched or read.",
    )
    columns[3].metric("Words", f"{words:,}", border=True, help="In all transcripts.")


def keep_topic(names: dict[str, str]) -> None:
    """Keep a chosen topic whose name or number changes: the browser knows it by these."""
    chosen = st.session_state.get("topic")
    if chosen in names:
        st.session_state["topic"] = chosen


def choose_row(episode_ids: list[str]) -> None:
    """Keep which episode is chosen: its row is another one as soon as an episode arrives."""
    rows = st.session_state["catalogue"]["selection"]["rows"]
    st.session_state[CHOSEN] = episode_ids[rows[0]] if rows else None


def mark_row(episode_ids: list[str]) -> None:
    """Move the mark of the table that is about to be drawn to the chosen episode's row."""
    chosen = st.session_state.get(CHOSEN)
    rows = [episode_ids.index(chosen)] if chosen in episode_ids else []
    marked = st.session_state.get("catalogue", {"selection": {"rows": []}})
    if marked["selection"]["rows"] != rows:
        selection = {"rows": rows, "columns": [], "cells": []}
        st.session_state["catalogue"] = {"selection": selection}


@st.fragment(run_every=10)
def episodes() -> None:
    """The page, every ten seconds."""
    st.title("Episodes", anchor=False)
    numbers = st.container()
    search, of_category, of_topic = st.columns([3, 2, 3])
    text = search.text_input(
        "Search title, show or id", placeholder="tides, volcano, pi:123456 …", key="text"
    )
    with sources.delta_answers():
        topics = read_topics()
    keep_topic(topics)
    topic_id = of_topic.selectbox(
        "Topic",
        list(topics),
        index=None,
        placeholder="All topics",
        key="topic",
        format_func=lambda topic_id: topics.get(topic_id, topic_id),
    )
    with sources.mongo_answers(), sources.delta_answers():
        total, names, found = read_catalogue(
            sources.served(), text, st.session_state.get("category"), topic_id
        )
    of_category.selectbox(
        "Category", names, index=None, placeholder="All categories", key="category"
    )
    if total == 0:
        st.info(
            "No episodes yet: they appear as soon as the first records are downloaded.",
            icon=":material/hourglass_empty:",
        )
        return
    episode_ids = found["episode_id"].to_list()
    with sources.delta_answers():
        facts, transcripts = read_history(episode_ids)
    with numbers:
        show_numbers(total, transcripts)
    if found.is_empty():
        st.info("No episode matches.", icon=":material/search_off:")
        return
    mark_row(episode_ids)
    table = found.join(facts, on="episode_id", how="left", maintain_order="left")
    st.caption(
        f"{len(table):,} shown, newest first"
        f"{f' (the first {LIMIT})' if len(table) == LIMIT else ''}. "
        "Choose a row to read it."
    )
    st.dataframe(
        table.select(
            "title",
            "show",
            "categories",
            "published_at",
            (pl.col("duration_s") / 60).alias("minutes"),
            "status",
            "words",
            "plays",
            "hours",
            "episode_id",
        ),
        hide_index=True,
        height=520 if len(table) > 13 else "auto",
        on_select=partial(choose_row, episode_ids),
        selection_mode="single-row",
        key="catalogue",
        column_config={
            "title": st.column_config.TextColumn("Episode", width="large"),
            "show": st.column_config.TextColumn("Show", width="medium"),
            "categories": st.column_config.ListColumn("Categories"),
            "published_at": st.column_config.DatetimeColumn(
                "Published, UTC", timezone="UTC", format="YYYY-MM-DD HH:mm"
            ),
            "minutes": st.column_config.NumberColumn("Minutes", format="%.0f", width="small"),
            "status": st.column_config.TextColumn("Transcript", width="small"),
            "words": st.column_config.NumberColumn("Words", format="localized", width="small"),
            "plays": st.column_config.NumberColumn(
                "Plays", format="localized", width="small", help="In the newest 28 days."
            ),
            "hours": st.column_config.NumberColumn(
                "Hours heard", format="%.1f", width="small", help="In the newest 28 days."
            ),
            "episode_id": st.column_config.TextColumn("Id", width="small"),
        },
    )
    chosen = st.session_state.get(CHOSEN)
    if chosen in episode_ids:
        show_episode(table.row(episode_ids.index(chosen), named=True))


episodes()
