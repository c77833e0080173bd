"""A heading with a choice beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator


def choose(
    title: str,
    label: str,
    options: Mapping[str, Any],
    default: str,
    key: str,
    *,
    page: bool = False,
) -> tuple[DeltaGenerator, str]:
    """Draw the heading, of a page or of a section of it, and the choice among ``options``.

    Gives what the heading is in, for a caption below it, and the name that is chosen.
    """
    head, chooser = st.columns([3, 2], vertical_alignment="bottom")
    if page:
        head.title(title, anchor=False)
    else:
        head.subheader(title, anchor=False)
    with chooser.container(horizontal_alignment="right"):
        chosen = st.segmented_control(
            label,
            list(options),
            default=default,
            label_visibility="collapsed",
            required=True,
            key=key,
        )
    return head, chosen or default
