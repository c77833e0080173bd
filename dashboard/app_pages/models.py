"""Models: each ALS generation against popularity, and how the online blend is doing."""

from __future__ import annotations

import math
from typing import Any

import polars as pl
import streamlit as st

from dashboard import charts, history, queries, sources
from streams.recommendation.core.listing import ListedGeneration, refused_lately, serving

OFFLINE = {
    "ndcg_at_10": "Gain of the first ten places, discounted by place, against the best order.",
    "recall_at_10": "Share of what was heard afterwards that the first ten places held.",
    "map_at_10": "Mean of the precision at each place that was right.",
    "coverage": "Share of the catalogue that is recommended to anybody.",
}


def newest_value(metrics: pl.DataFrame, model: str, metric: str) -> float | None:
    """The newest figure, or None."""
    found = metrics.filter((pl.col("model") == model) & (pl.col("metric") == metric))
    return None if found.is_empty() else found["value"][-1]


def show_offline(metrics: pl.DataFrame) -> None:
    """The figures of the newest generation, and their course."""
    als = metrics.filter(pl.col("model") == "als")
    if als.is_empty():
        st.info(
            "No generation yet: the first is trained once enough listening has reached the Delta "
            "tables.",
            icon=":material/hourglass_empty:",
        )
        return
    st.caption(
        f"Time split: trained on the earlier listening, judged on the later. Newest generation "
        f"`{als['generation'][-1]}`, {sources.stamp(als['at'][-1])}."
    )
    columns = st.columns(len(OFFLINE))
    for column, (metric, help_text) in zip(columns, OFFLINE.items(), strict=True):
        value = newest_value(metrics, "als", metric)
        against = newest_value(metrics, "popularity", metric)
        with column.container(border=True):
            st.metric(
                charts.METRIC_NAMES[metric],
                "n/a" if value is None else f"{value:.3f}",
                delta=None if value is None or against is None else f"{value - against:+.3f}",
                delta_description="against popularity",
                help=help_text,
            )
            st.altair_chart(charts.offline_metric(metrics, metric), key=f"offline-{metric}")


def show_generations(generations: list[ListedGeneration]) -> None:
    """Which trainings there were, what became of them, and a word on those that are refused."""
    for refused in refused_lately(generations)[:1]:
        served = serving(generations)
        st.warning(
            f"Generation `{refused.generation}` is refused. "
            + (f"`{served.generation}` stays in service." if served else "There is no other yet."),
            icon=":material/block:",
        )
        st.code(refused.because, language=None)  # may hold what somebody wrote to the topic
    if not generations:
        return
    st.dataframe(
        [
            {
                "generation": one.generation,
                "state": one.state,
                "trained": one.trained_at,
                "pairs": one.interactions,
                "ndcg": one.ndcg_at_10,
                "popularity": one.popularity,
                "why": one.because,
            }
            for one in generations
        ],
        hide_index=True,
        height=220,
        column_config={
            "generation": "Generation",
            "state": "State",
            "trained": st.column_config.DatetimeColumn("Trained, UTC", timezone="UTC"),
            "pairs": st.column_config.NumberColumn("Listener-episode pairs"),
            "ndcg": st.column_config.NumberColumn("nDCG@10", format="%.4f"),
            "popularity": st.column_config.NumberColumn("Popularity", format="%.4f"),
            "why": "Why",
        },
    )


def show_failures(failures: list[dict[str, Any]]) -> None:
    """What has been tried in vain, and when it is tried again."""
    for failure in failures:
        st.warning(
            f"`{failure['stage']}` has failed {failure['attempts']} times since it last succeeded "
            f"and is tried again at {sources.stamp(failure['retry_at'])}. Everything else goes on.",
            icon=":material/error:",
        )
        if failure["error"]:
            st.code(failure["error"], language=None)  # as it is: no markup of a stranger's


@st.cache_data(ttl=10, show_spinner=False)
def read_online() -> pl.DataFrame | None:
    """The course of the blend's figures, which Delta keeps; None before the table is written."""
    opened = history.open_history(sources.delta_root(), ("model_metrics",))
    return history.online_metrics(opened) if opened.has("model_metrics") else None


def show_online(metrics: pl.DataFrame) -> None:
    """The prequential figures of the blend: now, and their course."""
    st.subheader("Blend, learned online", anchor=False)
    figures = queries.online_figures(metrics)
    if not figures:
        st.caption("No figures yet: the blend learns from what was shown and then played or not.")
        return
    numbers, left, right = st.columns([1, 2, 2])
    with numbers:
        st.metric(
            "AUC",
            f"{figures['auc']:.3f}" if "auc" in figures else "n/a",
            border=True,
            help="Each item shown is predicted before its outcome is learned. 0.5 is guessing.",
        )
        st.metric(
            "Log-loss",
            f"{figures['log_loss']:.3f}" if "log_loss" in figures else "n/a",
            border=True,
            help="Mean of -log of the probability given to what happened; a coin gets 0.693.",
        )
        st.metric(
            "Drifting partitions",
            f"{figures.get('drifting', 0):.0f} of {figures['partitions']:.0f}",
            border=True,
            help="Source partitions in whose latest outcomes ADWIN saw the log-loss rise. A red "
            "rule in the charts is where one began.",
        )
    with sources.delta_answers():
        course = read_online()
    if course is None or course.is_empty():
        left.caption("Their course appears once Delta holds figures.")
        return
    with left.container(border=True, height="stretch"):
        st.altair_chart(charts.online_metric(course, "auc", "AUC", 0.5), key="auc")
    with right.container(border=True, height="stretch"):
        st.altair_chart(
            charts.online_metric(course, "log_loss", "log-loss, nats", math.log(2)), key="log-loss"
        )


@st.fragment(run_every=5)
def models() -> None:
    """The page, every five seconds."""
    st.title("Models", anchor=False)
    with sources.mongo_answers():
        metrics = sources.answer("metrics", queries.model_metrics)
        failures = queries.stage_failures(sources.database())
        trained = queries.model_generations(sources.database())
    show_failures(failures)
    show_offline(metrics)
    show_generations(trained)
    show_online(metrics)
    if not metrics.is_empty():
        with st.expander("All figures"):
            st.dataframe(
                metrics.reverse(),
                hide_index=True,
                column_config={
                    "at": st.column_config.DatetimeColumn("At, UTC", timezone="UTC"),
                    "value": st.column_config.NumberColumn("Value", format="%.4f"),
                },
            )


models()
