"""HTML as a run of tags and texts, without a tree: in linear time, however it is nested.

Building a tree takes time with the square of the depth, copies open formatting into every block and
compares each attribute with all before it, none of which a stranger may choose.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from functools import cache


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The quantifiers are possessive: what does not match is not tried in another way.
_TOKEN = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))"
    r"|<(?P<close>/?)(?P<tag>[a-zA-Z][^\t\n\f\r /<>]*+)"
    r"(?P<said>(?>(?:[^<>=]++|=[\t\n\f\r ]*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))|=)*))"
    r"(?P<end>>|\Z)"
    r"|<[!?/][^>]*+(?:>|\Z)",
    re.S,
)
# An element has attributes with values, or one word of HTML's; prose has several others.
_ATTRIBUTE = re.compile(r"[^\s=]++\s*+=\s*+(?:\"[^\"]*+\"?|'[^']*+'?|[^\s\"'=]++)")
_WORD = re.compile(r"[^\W\d_][\w'-]*+[,.;:!?]?(?=\s|\Z)")
_VALUELESS = _words(
    """
    allowfullscreen async autofocus autoplay checked compact controls default defer disabled
    download formnovalidate hidden inert ismap itemscope loop multiple muted nohref nomodule
    noresize noshade novalidate nowrap open playsinline readonly required reversed scoped
    selected
    """
)
_UNSEEN = ("script", "style", "title", "template", "noscript", "iframe")
# A word, a mail address or a link.
_WORD_ALONE = re.compile(r"<[^\s<>/]++(?:\s*+>|(?<=:)//[^\s<>]*+>)")
_CLOSED = re.compile(r"</([a-zA-Z][a-zA-Z0-9]{0,40})")
_ELEMENTS = _words(
    """
    a abbr acronym address applet area article aside audio b base basefont bdi bdo big blink
    blockquote body br button canvas caption center cite code col colgroup command content
    data datalist dd del details dfn dialog dir div dl dt em embed fieldset figcaption
    figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html i
    iframe image img input ins isindex kbd keygen label legend li link listing main map mark
    marquee math menu menuitem meta meter nav nobr noembed noframes noscript object ol
    optgroup option output p param path picture plaintext pre progress q rb rbc rp rt rtc
    ruby s samp script search section select slot small source spacer span strike strong
    style sub summary sup svg table tbody td template textarea tfoot th thead time title tr
    track tt u ul var video wbr xml xmp
    """
)
_END = {tag: re.compile(rf"</{tag}(?=[\t\n\f\r />]|\Z)", re.I) for tag in _UNSEEN}


def tokens(markup: str) -> Iterator[tuple[str, str]]:
    """(`text`, what it says), (`open`, tag) and (`close`, tag) in order, tags in lower case.

    What no reader sees, such as scripts, is left out. A sign for less that words follow (`a<b then
    c`), or before which no tag ends, begins none; nor does a word in angle brackets that HTML has
    no element for, and that is never closed (`List<String>`).
    """
    told = at = 0
    # Once, and only where a tag makes it a question.
    closed = cache(lambda: frozenset(map(str.lower, _CLOSED.findall(markup))))
    while found := _TOKEN.search(markup, at):
        tag, at = (found["tag"] or "").lower(), found.end()
        if tag and _is_text(found, tag, closed):
            at = found.start() + 1
            continue
        if found.start() > told:
            yield "text", html.unescape(markup[told : found.start()])
        if tag in _END:
            if not found["close"]:
                end = _END[tag].search(markup, at)
                at = end.start() if end else len(markup)
        elif tag:
            yield "close" if found["close"] else "open", tag
        told = at
    if told < len(markup):
        yield "text", html.unescape(markup[told:])


def _is_text(found: re.Match[str], tag: str, closed: Callable[[], frozenset[str]]) -> bool:
    """Whether what looks like a tag is none. ``closed``: the names of all closing tags."""
    if tag not in _ELEMENTS:
        if not found["end"]:
            return True
        word = tag.isalnum() or "@" in tag or tag.endswith(":")
        alone = word and not found["close"] and _WORD_ALONE.match(found[0])
        if alone and tag not in closed():
            return True
    return is_prose(found["said"], closed=bool(found["end"]))


def is_prose(said: str, *, closed: bool) -> bool:
    """Whether what follows a name behind an opening angle bracket is prose rather than attributes.

    Of a tag that is not ``closed`` only what comes before the next one, or the end, is known.
    """
    rest = _ATTRIBUTE.sub(" ", said)
    words = [word for word in _WORD.findall(rest) if word.lower() not in _VALUELESS]
    return (len(words) > 1 and rest == said) or (not closed and len(words) > 2)
