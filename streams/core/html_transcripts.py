"""Reads transcripts in HTML, as the podcast namespace has them: `<cite>`, `<time>` and `<p>`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from streams.core.plain_text import nests_deeply, one_line
from streams.core.segments import Segment, TranscriptError, clock_ms, segment

_LABELLED = frozenset(("cite", "time", "p"))
# Inline markup parts no words, these do.
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = ("br", "div", "li", "tr", "td", "dt", "dd", "section", "blockquote")
_APART = _LABELLED.union(_HEADINGS, _BLOCKS)
_UNSEEN = frozenset(("script", "style", "template", "noscript", "head"))
_TEXT = "-text"


def read_html(text: str) -> list[Segment]:
    """The segments of a page: one a paragraph, or one for the page where most is in none.

    Speaker and time stand in front of their paragraph, around it or in it. Raises TranscriptError
    for a page that would take too long to parse.
    """
    if nests_deeply(text):
        raise TranscriptError("HTML nested too deeply")
    body = LexborHTMLParser(text).body
    page = _Page()
    if body is not None:
        for node, enters in _walk(body):
            page.see(node, enters)
    whole = "".join(page.whole)
    if 2 * page.labelled < len(whole.strip()):
        return [segment(None, None, "", whole)]
    return page.segments


def _walk(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Each node below the root on the way in and, unless it is a text, on the way out."""
    opened: list[LexborNode] = []
    node = root.child
    while node is not None or opened:
        if node is None:
            node = opened.pop()
            yield node, False
        elif node.tag == _TEXT:
            yield node, True
        elif node.tag not in _UNSEEN:
            yield node, True
            opened.append(node)
            node = node.child
            continue
        node = node.next


@dataclass
class _Labelled:
    tag: str
    texts: list[str] = field(default_factory=list)
    told: bool = False
    """Whether its speaker or time was taken over already."""


class _Page:
    """What a walk has seen. Each text belongs to one element only, the innermost labelled one:
    time would grow with the depth otherwise."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.whole: list[str] = []
        self.labelled = 0
        """Characters in labelled elements."""
        self._open: list[_Labelled] = []
        self._paragraphs = 0
        self._speaker = ""
        self._start: int | None = None

    def see(self, node: LexborNode, enters: bool) -> None:
        tag = node.tag or ""
        if tag == _TEXT:
            self._add(node.text_content or "")
            return
        if tag in _APART:
            self._add(" ")
        # A paragraph in a paragraph goes on with it.
        nested = tag == "p" and self._paragraphs > (0 if enters else 1)
        if tag == "p":
            self._paragraphs += 1 if enters else -1
        if tag not in _LABELLED or nested:
            return
        if enters:
            if tag == "p" and self._open:
                self._label(self._open[-1])  # it was not closed, or is around what it labels
            self._open.append(_Labelled(tag))
        elif tag == "p":
            self._say("".join(self._open.pop().texts))
        else:
            self._label(self._open.pop())

    def _add(self, text: str) -> None:
        self.whole.append(text)
        if self._open:
            self._open[-1].texts.append(text)
            self.labelled += len(text)

    def _say(self, text: str) -> None:
        self.segments.append(segment(self._start, None, self._speaker, text))
        self._start = None

    def _label(self, element: _Labelled) -> None:
        """Take over the speaker or time in an element, once."""
        label = one_line("".join(element.texts))
        if label or not element.told:
            if element.tag == "cite":
                self._speaker = label.rstrip(": ")
            elif element.tag == "time":
                self._start = clock_ms(label)
        element.texts.clear()
        element.told = True
