"""What strangers write, as text: without markup and control characters, and of bounded length."""

from __future__ import annotations

import html
import re

from streams.text.markup import tokens

MAX_DESCRIPTION = 20_000
MAX_SHORT = 2_000
MAX_TITLE = 300
"""Longest title, in characters: a list has two in each of its rows, and fits into a message."""
MAX_NAME = 200

_BLOCK_END = re.compile(
    r"</?(?:p|div|li|ul|ol|h[1-6]|tr|blockquote)\b[^>]{0,1000}>|<br\s{0,9}/?>", re.I
)
_MARKUP = re.compile(r"<[a-zA-Z/!]|&[a-zA-Z#]")
_CDATA = re.compile(r"<!\[CDATA\[")
_SCRIPT = re.compile(r"<(script|style)(?:\s[^<>]*+)?>[^<]*+</\1\s*+>", re.I)
_BREAKS = ("br", "wbr", "hr")
_PARTING = ("p", "div", "br", "hr", "li", "h1", "h2", "h3", "h4", "h5", "h6")
_TAG = re.compile(
    r"<(?P<close>/?)(?P<name>abbr|a|big|b|br|center|cite|code|del|div|em|font|hr|h[1-6]|ins|i|kbd|li"
    r"|mark|p|pre|q|small|span|strike|strong|sub|sup|s|tt|ul|ol|u|wbr)(?:\s[^<>]*+)?/?>"
    r"|<(?P<picture>img)\s[^<>]*+>",
    re.I,
)
_BLANKS = re.compile(r"[^\S\n]+")
_EMPTY_LINES = re.compile(r"\s*\n\s*")


def clean(value: object) -> str:
    """Text or a number as text that UTF-8 can carry, without control characters but line ends."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**64:
        value = str(value)
    text = value if isinstance(value, str) else ""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c for c in text if c >= " " or c in "\n\t") if not text.isprintable() else text


def one_line(value: object) -> str:
    """Text on one line: formatting and entities gone, blanks collapsed, at most 2,000 characters.

    Formatting is what comes in pairs of tags (`<b>...</b>`) and breaks. Any other word in angle
    brackets is one that was written: titles tell of `<dialog>`, and are no HTML.
    """
    text = without_cdata(clean(value)[: 10 * MAX_DESCRIPTION])
    if "<" in text:
        text = _without_formatting(text)
    return " ".join(clean(html.unescape(without_cdata(text))).split())[:MAX_SHORT]


def without_cdata(text: str) -> str:
    """A text without the marks of CDATA that were escaped with it, and became part of it."""
    return _CDATA.sub("", text).replace("]]>", "") if _CDATA.search(text) else text


def _without_formatting(text: str) -> str:
    """A text without scripts, pairs of formatting tags, pictures and breaks; other tags stay."""
    text = _SCRIPT.sub("", text)
    opened: dict[str, list[int]] = {}
    gone: set[int] = set()
    tags = list(_TAG.finditer(text))
    for place, tag in enumerate(tags):
        name = (tag["name"] or "").lower()
        if tag["picture"] or name in _BREAKS:
            gone.add(place)
        elif not tag["close"]:
            opened.setdefault(name, []).append(place)
        elif opened.get(name):
            gone |= {place, opened[name].pop()}
    parts, at = [], 0
    for place in sorted(gone):
        tag = tags[place]
        blank = " " if (tag["name"] or "").lower() in _PARTING else ""
        parts += [text[at : tag.start()], blank]
        at = tag.end()
    return "".join((*parts, text[at:]))


def identifier(value: object) -> str:
    """An id on one line, at most 2,000 characters; an ampersand in it begins no entity."""
    return " ".join(clean(value).split())[:MAX_SHORT]


def short_title(value: object) -> str:
    """A title on one line, at most 300 characters."""
    return one_line(value)[:MAX_TITLE].strip()


def short_name(value: object) -> str:
    """A name on one line, at most 200 characters."""
    return one_line(value)[:MAX_NAME].strip()


def plain_text(value: object) -> str:
    """HTML as the text a reader sees, one line a block; text without markup stays as it is."""
    text = without_cdata(clean(value))
    if _MARKUP.search(text):
        # Cut first: what is thrown away afterwards need not be parsed.
        marked = _BLOCK_END.sub(r"\n\g<0>", text[: 10 * MAX_DESCRIPTION])
        text = clean("".join(what for kind, what in tokens(marked) if kind == "text"))
        text = without_cdata(text)
    text = _EMPTY_LINES.sub("\n", _BLANKS.sub(" ", text)).strip()
    return text[:MAX_DESCRIPTION]
