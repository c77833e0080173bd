"""Lineage: the declared graph, from sources to screens."""

from __future__ import annotations

import streamlit as st

from dashboard import lineage
from topology.graph import get_graph

graph = get_graph()
st.title("Lineage", anchor=False)
st.caption(
    "Derived from the declared topology: a stage reads topics and writes topics. Rounded: stages "
    "(indigo Faust, violet plain Kafka clients, amber Spark, teal Streamlit, blue HTTP). Grey: "
    "topics. Cylinders: green MongoDB, yellow Delta. Dashed: reference data that every worker "
    "reads whole."
)
with st.container(border=True):
    st.graphviz_chart(lineage.lineage_dot(graph), width="stretch")

stages, topics, stores = st.tabs(["Stages", "Topics", "Stores"])
wide = st.column_config.TextColumn("What it is for", width="large")
stages.dataframe(lineage.stage_rows(graph), hide_index=True, column_config={"doc": wide})
topics.dataframe(lineage.topic_rows(graph), hide_index=True, column_config={"doc": wide})
stores.dataframe(lineage.store_rows(graph), hide_index=True, column_config={"doc": wide})
