"""The dashboard: ``streamlit run dashboard/app.py``. Read-only, on loopback."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

# Streamlit puts this file's folder on the path; the pages import packages beside it.
ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

HERE = Path(__file__).parent
# files of ours: a named icon in the browser's tab would be fetched from a vendor's host
st.set_page_config(page_title="Podstream", page_icon=str(HERE / "icon.svg"), layout="wide")
st.logo(str(HERE / "logo.svg"), size="large")

page = st.navigation(
    [
        st.Page("app_pages/live.py", title="Live", icon=":material/monitoring:", default=True),
        st.Page(
            "app_pages/recommendations.py", title="Recommendations", icon=":material/recommend:"
        ),
        st.Page("app_pages/models.py", title="Models", icon=":material/model_training:"),
        st.Page("app_pages/episodes.py", title="Episodes", icon=":material/podcasts:"),
        st.Page("app_pages/history.py", title="History", icon=":material/history:"),
        st.Page("app_pages/lineage.py", title="Lineage", icon=":material/account_tree:"),
    ],
    position="top",
)
# below the path's completion: what is imported lies beside this folder
from dashboard import sources  # noqa: E402

sources.tell_version()
page.run()
