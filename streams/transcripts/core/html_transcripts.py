"""Reads transcripts in HTML, as the podcast namespace has them: `<cite>`, `<time>` and `<p>`."""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.text.markup import tokens
from streams.text.notes import Notes
from streams.text.plain_text import one_line
from streams.transcripts.core.segments import Segment, TranscriptError, clock_ms, segment

_LABELLED = frozenset(("cite", "time", "p"))
# Inline markup parts no words, these do.
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_BLOCKS = ("br", "div", "li", "tr", "td", "dt", "dd", "section", "blockquote")
_DEEPEST = 64
_APART = _LABELLED.union(_HEADINGS, _BLOCKS)


def read_html(text: str, notes: Notes | None = None) -> list[Segment]:
    """The segments of a page: one a paragraph, or one for the page where most is in none.

    Speaker and time stand in front of their paragraph, around it or in it. Raises TranscriptError
    where labels nest further than on any page written in good faith.
    """
    page = _Page()
    for kind, what in tokens(text):
        page.see(kind, what)
    page.end()
    whole = "".join(page.whole)
    if 2 * page.labelled < len(whole.strip()):
        if page.segments and notes is not None:
            notes.add("most of the page is in no paragraph: speakers and times left out")
        return [segment(None, None, "", whole)]
    return page.segments


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
        self._speaker = ""
        self._start: int | None = None

    def see(self, kind: str, what: str) -> None:
        if kind == "text":
            self._add(what)
            return
        if what in _APART:
            self._add(" ")
        if what == "p":
            self._close("p")
        if what not in _LABELLED:
            return
        if kind == "close":
            self._close(what)
            return
        if what == "p" and self._open:
            self._label(self._open[-1])  # it was not closed, or is around what it labels
        self._open.append(_Labelled(what))
        if len(self._open) > _DEEPEST:
            raise TranscriptError("HTML nested too deeply")

    def end(self) -> None:
        self._close_from(0)

    def _add(self, text: str) -> None:
        self.whole.append(text)
        if self._open:
            self._open[-1].texts.append(text)
            self.labelled += len(text)

    def _close(self, tag: str) -> None:
        """Close the innermost such element and those in it; a paragraph closes for none but it."""
        place = len(self._open) - 1
        while place >= 0 and self._open[place].tag not in (tag, "p"):
            place -= 1
        if tag == "p":
            place = next((n for n, e in enumerate(self._open) if e.tag == "p"), -1)
        if place < 0 or self._open[place].tag != tag:
            return
        self._close_from(place)

    def _close_from(self, place: int) -> None:
        while len(self._open) > place:
            element = self._open.pop()
            if element.tag == "p":
                self._say("".join(element.texts))
            else:
                self._label(element)

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
