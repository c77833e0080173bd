"""Strangers' text where Streamlit would read Markdown: ids of events and of models, for example."""

from __future__ import annotations

import re

_MARKS = re.compile(r"([!-/:-@\[-`{-~])")


def plain(text: str) -> str:
    """The text, every mark of it taken for itself: Markdown lets a backslash say so."""
    return _MARKS.sub(r"\\\1", " ".join(text.split()))
