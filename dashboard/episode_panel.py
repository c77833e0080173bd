"""One episode in full: what it is, how it is heard, what was worked out of it, what was said."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import polars as pl
import streamlit as st

from dashboard import analysis, episode_charts, history, live_tables, queries, sources
from dashboard.retention import drop_offs, retention_curve
from schemas.metrics import DAY_METRICS

CHOSEN = "chosen-episode"
"""Where the session keeps the id of the episode that is shown."""

DAYS = 30


@st.cache_data(ttl=60, show_spinner=False)
def read_transcript(episode_id: str) -> history.Transcript:
    """What was said."""
    opened = history.open_history(sources.delta_root(), ("transcripts",))
    if not opened.has("transcripts"):
        return history.Transcript()
    return history.transcript_of(opened, episode_id)


@st.cache_data(ttl=10, show_spinner=False)
def read_found(episode_id: str) -> analysis.Found:
    """What was worked out from the transcript."""
    return analysis.found_for(
        history.open_history(sources.delta_root(), analysis.TABLES), episode_id
    )


@st.cache_data(ttl=5, show_spinner=False)
def read_days(served: str, episode_id: str) -> pl.DataFrame:
    """The episode's newest days, as this database has them."""
    return live_tables.episode_days(sources.database(served), episode_id, DAYS)


def show_episode(episode: dict[str, Any]) -> None:
    """One episode in full; what strangers wrote or said goes out as plain text only."""
    episode_id = str(episode["episode_id"])
    with st.container(border=True):
        st.text(f"{episode['title']}  ·  {episode['show'] or ''}")
        if episode["description"]:
            st.text(str(episode["description"]))
        show_notes("Notes on the feed", episode["notes"] or ())
        show_listening(episode_id)
        with sources.delta_answers():
            said, notes = read_transcript(episode_id)
        show_notes("Notes on the transcript", notes)
        if not said:
            st.caption("No transcript.")
            return
        with sources.delta_answers():
            found = read_found(episode_id)
        show_analysis(found)
        show_similar(episode_id, found.similar)
        st.text_area("Transcript", said, height=220, disabled=True)


def show_notes(title: str, notes: Iterable[str]) -> None:
    """What was dropped, guessed or mended in reading something; strangers' words are in it."""
    if lines := [f"· {note}" for note in notes]:
        st.caption(f"{title}: what was dropped, guessed or mended in reading.")
        st.text("\n".join(lines))


def show_listening(episode_id: str) -> None:
    """How often the episode is heard, day by day, and how far into it."""
    with sources.mongo_answers():
        days = read_days(sources.served(), episode_id)
    if days.is_empty():
        st.caption("Nobody has heard it yet.")
        return
    show_totals(days)
    left, right = st.columns(2)
    with left.container(border=True, height="stretch"):
        st.markdown("**Downloads and streams per day**")
        st.altair_chart(episode_charts.days_of_episode(live_tables.without_gaps(days)), key="days")
    with right.container(border=True, height="stretch"):
        st.markdown("**How far it is heard**")
        curve = retention_curve(days)
        if curve.is_empty():
            st.caption("No listening has been reported yet.")
            return
        drops = drop_offs(curve)
        st.altair_chart(episode_charts.retention(curve, drops), key="retention")
        told = [
            f"minute {row['minute']} ({row['share']:.0%} left, {row['left']:.0%} went on)"
            for row in drops.iter_rows(named=True)
        ]
        st.caption(f"Largest drop-offs: {', '.join(told)}." if told else "Nobody left early.")


def show_totals(days: pl.DataFrame) -> None:
    """The sums of the days."""
    totals = {name: int(days[name].sum()) for name in DAY_METRICS}
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


def show_analysis(found: analysis.Found) -> None:
    """What was worked out from the transcript, as far as it was."""
    row = found.analysis
    if row is None:
        st.caption("The transcript is not analysed yet.")
        return
    facts = [f"Language of the transcript: {row['language'] or 'unknown'}"]
    if found.topic is not None:
        count = found.topic["episodes"]
        label = found.topic["label"] or analysis.UNLABELLED
        facts.append(f"Topic: {label}, {count:,} episode{'' if count == 1 else 's'}")
    st.text("\n".join(facts))
    show_measures(row)
    left, right = st.columns(2)
    with left.container(border=True, height="stretch"):
        st.markdown("**Who speaks**")
        shares = analysis.speaker_shares(row)
        if shares.is_empty():
            st.caption("The transcript names no speakers.")
        else:
            st.altair_chart(
                episode_charts.speakers(shares, row["speaker_share_of"] or "words"), key="speakers"
            )
    with right.container(border=True, height="stretch"):
        st.markdown("**Keyphrases**")
        phrases = [keyword["phrase"] for keyword in row["keywords"] or []]
        if phrases:
            st.markdown(analysis.chips(phrases))
            st.caption("Phrases that this transcript comes back to, the most telling first.")
        else:
            st.caption(
                "None: the transcript is short, or in a language without a list of stop words."
            )
    show_sponsors(analysis.sponsor_guesses(row))


def show_measures(row: dict[str, Any]) -> None:
    """Words, speech, pace and readability."""
    speech_ms, pace, ease = row["speech_ms"], row["speaking_rate_wpm"], row["readability"]
    shown = (
        (
            "Words",
            "n/a" if row["words"] is None else f"{row['words']:,}",
            "Not counted in a script that does not put spaces between words.",
        ),
        (
            "Speech",
            "n/a" if speech_ms is None else f"{speech_ms / 60_000:,.1f} min",
            "Time in which anybody speaks; known where the transcript has times.",
        ),
        (
            "Words a minute",
            "n/a" if pace is None else f"{pace:,.0f}",
            "Words ÷ minutes of speech; told from 30 s of speech on.",
        ),
        (
            "Reading ease",
            "n/a" if ease is None else f"{ease:.0f} · {analysis.reading(ease)}",
            "Flesch reading ease by the formula of the language: 0 is very hard and 100 very easy "
            "to read, plain English 60 to 70. Not told under 100 words, without punctuation, and "
            "for languages without a formula.",
        ),
    )
    for column, (label, value, help_text) in zip(st.columns(len(shown)), shown, strict=True):
        column.metric(label, value, border=True, help=help_text)


def show_sponsors(guesses: pl.DataFrame) -> None:
    """Where the episode may advertise."""
    if guesses.is_empty():
        return
    st.markdown("**Perhaps advertisements**")
    st.caption(
        "A guess from phrases that advertisements use: it may be wrong, and misses those without "
        "them. The strength, 0.5 to 1, is no probability."
    )
    st.dataframe(
        guesses,
        hide_index=True,
        column_config={
            "start": st.column_config.TextColumn("From", width="small"),
            "end": st.column_config.TextColumn("To", width="small"),
            "brand": st.column_config.TextColumn("Perhaps for", width="small"),
            "evidence": st.column_config.ListColumn("Because it says", width="large"),
            "score": st.column_config.NumberColumn("Strength", format="%.2f", width="small"),
        },
    )


def show_similar(episode_id: str, similar: pl.DataFrame) -> None:
    """The near-duplicates; one that is chosen is opened."""
    if similar.is_empty():
        return
    with sources.mongo_answers():
        titled = queries.with_titles(sources.database(), similar)
    first = "Another one came first." if similar["first"].any() else ("This one came first.")
    st.markdown("**Near-duplicates**")
    st.caption(f"Episodes whose transcripts are nearly the same. {first} Choose a row to open it.")
    st.dataframe(
        titled.select("title", "similarity", "first", "show"),
        hide_index=True,
        on_select=partial(open_similar, episode_id, similar["episode_id"].to_list()),
        selection_mode="single-row",
        key=_similar_key(episode_id),
        column_config={
            "title": st.column_config.TextColumn("Episode", width="medium"),
            "show": st.column_config.TextColumn("Show", width="medium"),
            "similarity": st.column_config.NumberColumn(
                "Similarity",
                format="percent",
                width="small",
                help="Estimated share of the two texts that both have (Jaccard).",
            ),
            "first": st.column_config.CheckboxColumn("Came first", width="small"),
        },
    )


def open_similar(episode_id: str, similar: list[str]) -> None:
    """Search for the near-duplicate that was chosen, and show it."""
    rows = st.session_state[_similar_key(episode_id)]["selection"]["rows"]
    if rows:
        st.session_state[CHOSEN] = st.session_state["text"] = similar[rows[0]]
        st.session_state["category"] = st.session_state["topic"] = None


def _similar_key(episode_id: str) -> str:
    return f"similar-{episode_id}"
