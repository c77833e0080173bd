"""Episodes: the catalogue, what was said, and what was played."""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboard import charts, history, live_tables, queries, sources
from dashboard.retention import drop_offs, retention_curve

LIMIT = 300
DAYS = 30
TABLES = ("transcripts", "user_vs_episode_daily")


@st.cache_data(ttl=5, show_spinner=False)
def read_catalogue(text: str, category: str | None) -> tuple[int, list[str], pl.DataFrame]:
    """Size of the catalogue, its categories, and the episodes that match."""
    database = sources.database()
    return (
        queries.episode_count(database),
        queries.categories(database),
        queries.catalogue(database, text, category, LIMIT),
    )


@st.cache_data(ttl=10, show_spinner=False)
def read_history(episode_ids: list[str]) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Plays and transcripts of the episodes; transcripts by status, None without the table."""
    opened = history.open_history(sources.delta_root(), TABLES)
    counts = history.transcript_counts(opened) if opened.has("transcripts") else None
    return history.plays_and_transcripts(opened, episode_ids), counts


@st.cache_data(ttl=60, show_spinner=False)
def read_transcript(episode_id: str) -> str | None:
    """What was said, or None."""
    opened = history.open_history(sources.delta_root(), ("transcripts",))
    return history.transcript_text(opened, episode_id) if opened.has("transcripts") else None


@st.cache_data(ttl=5, show_spinner=False)
def read_days(episode_id: str) -> pl.DataFrame:
    """The episode's newest days."""
    return live_tables.episode_days(sources.database(), episode_id, DAYS)


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


def show_episode(episode: dict[str, object]) -> None:
    """One episode in full; feed text goes out as plain text only."""
    with st.container(border=True):
        st.text(f"{episode['title']}  ·  {episode['show'] or ''}")
        if episode["description"]:
            st.text(str(episode["description"]))
        show_listening(str(episode["episode_id"]))
        with sources.delta_answers():
            said = read_transcript(str(episode["episode_id"]))
        if said:
            st.text_area("Transcript", said, height=220, disabled=True)
        else:
            st.caption("No transcript.")


def show_listening(episode_id: str) -> None:
    """How often the episode is heard, day by day, and how far into it."""
    with sources.mongo_answers():
        days = read_days(episode_id)
    if days.is_empty():
        st.caption("Nobody has heard it yet.")
        return
    show_totals(days)
    left, right = st.columns(2)
    with left.container(border=True, height="stretch"):
        st.markdown("**Downloads and streams per day**")
        st.altair_chart(charts.days_of_episode(live_tables.without_gaps(days)), key="days")
    with right.container(border=True, height="stretch"):
        st.markdown("**How far it is heard**")
        curve = retention_curve(days)
        if curve.is_empty():
            st.caption("No listening has been reported yet.")
            return
        drops = drop_offs(curve)
        st.altair_chart(charts.retention(curve, drops), key="retention")
        told = [
            f"minute {row['minute']} ({row['share']:.0%} left, {row['left']:.0%} went on)"
            for row in drops.iter_rows(named=True)
        ]
        st.caption(f"Largest drop-offs: {', '.join(told)}." if told else "Nobody left early.")


def show_totals(days: pl.DataFrame) -> None:
    """The sums of the days."""
    totals = {name: int(days[name].sum()) for name in live_tables.DAY_COUNTS}
    span = f"{len(days)} day{'' if len(days) == 1 else 's'} with events, at most {DAYS}."
    shown = (
        (
            "Downloads",
            f"{totals['downloads']:,}",
            f"Distinct listeners of each day, added up over {span} Known bots are left out.",
        ),
        ("Streams", f"{totals['streams']:,}", "Sessions that got to 60 seconds heard."),
        ("Engaged", f"{totals['engaged']:,}", "Sessions that got to 20 minutes or 40 % of it."),
        ("Completes", f"{totals['completes']:,}", "Times heard to the end."),
        ("Hours heard", f"{totals['heard_ms'] / 3_600_000:,.1f}", "Audio heard, hours."),
    )
    for column, (label, value, help_text) in zip(st.columns(len(shown)), shown, strict=True):
        column.metric(label, value, border=True, help=help_text)


@st.fragment(run_every=10)
def episodes() -> None:
    """The page, every ten seconds."""
    st.title("Episodes", anchor=False)
    numbers = st.container()
    search, narrow = st.columns([3, 1])
    text = search.text_input(
        "Search title, show or id", placeholder="tides, volcano, pi:123456 …", key="text"
    )
    with sources.mongo_answers():
        total, names, found = read_catalogue(text, st.session_state.get("category"))
    narrow.selectbox("Category", names, index=None, placeholder="All categories", key="category")
    if total == 0:
        st.info(
            "No episodes yet: they appear as soon as the first records are downloaded.",
            icon=":material/hourglass_empty:",
        )
        return
    with sources.delta_answers():
        facts, transcripts = read_history(found["episode_id"].to_list())
    with numbers:
        show_numbers(total, transcripts)
    if found.is_empty():
        st.info("No episode matches.", icon=":material/search_off:")
        return
    table = found.join(facts, on="episode_id", how="left", maintain_order="left")
    st.caption(
        f"{len(table):,} shown, newest first"
        f"{f' (the first {LIMIT})' if len(table) == LIMIT else ''}. "
        "Choose a row to read it."
    )
    event = st.dataframe(
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
        on_select="rerun",
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
            "plays": st.column_config.NumberColumn("Plays", format="localized", width="small"),
            "hours": st.column_config.NumberColumn("Hours heard", format="%.1f", width="small"),
            "episode_id": st.column_config.TextColumn("Id", width="small"),
        },
    )
    chosen = event["selection"]["rows"]
    if chosen:
        show_episode(table.row(chosen[0], named=True))


episodes()
