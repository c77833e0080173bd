"""HTML as a run of tags and texts, without a tree: in linear time, however it is nested.

Building a tree takes time with the square of the depth, copies open formatting into every block and
compares each attribute with all before it, none of which a stranger may choose.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

# The quantifiers are possessive: what does not match is not tried in another way.
_TOKEN = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))"
    r"|<(?P<close>/?)(?P<tag>[a-zA-Z][^\t\n\f\r />]*+)"
    r"(?:[^>=]++|=[\t\n\f\r ]*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))|=)*+(?:>|\Z)"
    r"|<[!?/][^>]*+(?:>|\Z)",
    re.S,
)
_UNSEEN = ("script", "style", "title", "template", "noscript", "iframe")
_END = {tag: re.compile(rf"</{tag}(?=[\t\n\f\r />]|\Z)", re.I) for tag in _UNSEEN}


def tokens(markup: str) -> Iterator[tuple[str, str]]:
    """(`text`, what it says), (`open`, tag) and (`close`, tag) in order, tags in lower case.

    What no reader sees, such as scripts, is left out.
    """
    at = 0
    while found := _TOKEN.search(markup, at):
        if found.start() > at:
            yield "text", html.unescape(markup[at : found.start()])
        at = found.end()
        tag = (found["tag"] or "").lower()
        if tag in _END:
            if not found["close"]:
                end = _END[tag].search(markup, at)
                at = end.start() if end else len(markup)
        elif tag:
            yield "close" if found["close"] else "open", tag
    if at < len(markup):
        yield "text", html.unescape(markup[at:])
