"""What strangers wrote is shown as they wrote it, where Markdown is read too."""

from __future__ import annotations

import pytest

from dashboard.plain import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("e-1", r"e\-1"),
        ("![x](http://evil.example/p.png)", r"\!\[x\]\(http\:\/\/evil\.example\/p\.png\)"),
        ("**b** $x$ :red[y]", r"\*\*b\*\* \$x\$ \:red\[y\]"),
        ("one\n\n# two", r"one \# two"),
        ("ä\\", "ä\\\\"),
    ],
)
def test_every_mark_is_taken_for_itself(text: str, shown: str) -> None:
    assert plain(text) == shown
