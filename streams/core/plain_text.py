"""What strangers write, as text: without markup and control characters, and of bounded length."""

from __future__ import annotations

import html
import re
from collections import Counter

from selectolax.lexbor import LexborHTMLParser

MAX_DESCRIPTION = 20_000
MAX_SHORT = 2_000
MAX_NAME = 200
MAX_NESTING = 256

_BLOCK_END = re.compile(
    r"</?(?:p|div|li|ul|ol|h[1-6]|tr|blockquote)\b[^>]{0,1000}>|<br\s{0,9}/?>", re.I
)
_MARKUP = re.compile(r"<[a-zA-Z/!]|&[a-zA-Z#]")
_BLANKS = re.compile(r"[^\S\n]+")
_OPEN_OR_CLOSE = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,20})")
_NEVER_NEST = frozenset(
    ("br", "col", "embed", "hr", "img", "input", "li", "link", "meta", "p", "wbr")
)
_ANY_TAG = re.compile(r"<[^<>]{0,2000}>")
_EMPTY_LINES = re.compile(r"\s*\n\s*")


def clean(value: object) -> str:
    """Text or a number as text that UTF-8 can carry, without control characters but line ends."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**64:
        value = str(value)
    text = value if isinstance(value, str) else ""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(c for c in text if c >= " " or c in "\n\t") if not text.isprintable() else text


def one_line(value: object) -> str:
    """Text on one line: markup and entities gone, blanks collapsed, at most 2,000 characters."""
    return " ".join(plain_text(value).split())[:MAX_SHORT]


def identifier(value: object) -> str:
    """An id on one line, at most 2,000 characters; an ampersand in it begins no entity."""
    return " ".join(clean(value).split())[:MAX_SHORT]


def short_name(value: object) -> str:
    """A name on one line, at most 200 characters."""
    return one_line(value)[:MAX_NAME].strip()


def plain_text(value: object) -> str:
    """HTML as the text a reader sees, one line a block; text without markup stays as it is."""
    text = clean(value)
    if _MARKUP.search(text):
        # Cut first: what is thrown away afterwards need not be parsed.
        marked = _BLOCK_END.sub(r"\n\g<0>", text[: 10 * MAX_DESCRIPTION])
        if nests_deeply(marked):
            text = clean(html.unescape(_ANY_TAG.sub("", marked)))
        else:
            tree = LexborHTMLParser(marked)
            tree.strip_tags(["script", "style", "template", "noscript", "iframe"])
            text = clean(tree.body.text() if tree.body else "")
    text = _EMPTY_LINES.sub("\n", _BLANKS.sub(" ", text)).strip()
    return text[:MAX_DESCRIPTION]


def nests_deeply(markup: str) -> bool:
    """Whether tags nest further than any page written in good faith.

    Parsing takes time with the square of the depth, which a stranger must not choose.
    """
    depth = 0
    opened: Counter[str] = Counter()
    for close, tag in _OPEN_OR_CLOSE.findall(markup.lower()):
        if tag in _NEVER_NEST or (close and not opened[tag]):
            continue  # a closing tag without its opening one takes nothing back
        opened[tag] += -1 if close else 1
        depth += -1 if close else 1
        if depth > MAX_NESTING:
            return True
    return False
