"""Recommendations: one listener's list as it moves, and why each item is there."""

from __future__ import annotations

import streamlit as st

from dashboard import charts, queries, sources
from dashboard.plain import plain

CHARTED = 15


@st.fragment(run_every=1)
def recommendations() -> None:
    """The page, once a second."""
    head, chooser = st.columns([3, 2], vertical_alignment="bottom")
    head.title("Recommendations", anchor=False)
    with sources.mongo_answers():
        known = sources.answer("listeners", queries.listeners)
    if known.is_empty():
        st.info(
            "No recommendations yet: a listener's list appears with the listener's first event.",
            icon=":material/hourglass_empty:",
        )
        return
    newest = known["user_id"].to_list()
    chosen = st.session_state.get("listener")
    # the options must hold what is chosen, or the choice would jump when others are updated
    options = newest if chosen in (None, *newest) else [chosen, *newest]
    user_id = chooser.selectbox(
        "Listener (the newest updated first; type any id)",
        options,
        index=0,
        accept_new_options=True,
        key="listener",
    )
    with sources.mongo_answers():
        found = sources.answer(
            ("recommendation", user_id), lambda db: queries.recommendation(db, user_id)
        )
    if found is None:
        st.info("This listener has no list yet.", icon=":material/person_search:")
        return
    show_recommendation(found)


def show_recommendation(found: queries.Recommendation) -> None:
    """The list: numbers, parts of the scores, reasons."""
    columns = st.columns(4)
    columns[0].metric(
        "Updated",
        f"{sources.ago(found.updated_at, sources.now())} ago",
        border=True,
        help=f"{sources.stamp(found.updated_at)}, the log time of the cause.",
    )
    columns[1].metric("Items", f"{len(found.items):,}", border=True)
    columns[2].metric(
        "ALS generation",
        plain(found.generation) or "before the first",
        border=True,
        help="The model whose factors the listener was folded into.",
    )
    columns[3].metric(
        "Caused by",
        plain(found.caused_by) or "n/a",
        border=True,
        help="The event, or the new generation, that this list answers.",
    )
    if found.items.is_empty():
        st.caption("The list is empty: there is nothing left that this listener has not heard.")
        return
    left, right = st.columns([4, 7])
    with left.container(border=True):
        st.subheader("What the scores are made of", anchor=False)
        st.altair_chart(charts.score_parts(found.items.head(CHARTED)), key="parts")
        st.caption(
            "The red tick is the score, which orders the list. A list that the model ranked goes "
            "by that; the others are blended of the first three."
        )
    with right:
        st.subheader("The list", anchor=False)
        st.dataframe(
            found.items.select("place", "title", "show", "score", "reason", *charts.PARTS),
            hide_index=True,
            height=560,
            column_config={
                "place": st.column_config.NumberColumn("#", width=36),
                "title": st.column_config.TextColumn("Episode", width=195),
                "show": st.column_config.TextColumn("Show", width=100),
                "score": st.column_config.ProgressColumn(
                    "Score", format="%.3f", width=105, min_value=0.0, max_value=1.0
                ),
                "reason": st.column_config.TextColumn("Why", width=190),
                "als": st.column_config.NumberColumn("ALS", format="%.2f", width=48),
                "content": st.column_config.NumberColumn("Content", format="%.2f", width=62),
                "trending": st.column_config.NumberColumn("Trending", format="%.2f", width=66),
                "ranked": st.column_config.NumberColumn("Ranked", format="%.2f", width=58),
            },
        )


recommendations()
