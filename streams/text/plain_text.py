"""What strangers write, as text: without markup and control characters, and of bounded length."""

from __future__ import annotations

import re

from streams.text.markup import tokens

MAX_DESCRIPTION = 20_000
MAX_SHORT = 2_000
MAX_NAME = 200

_BLOCK_END = re.compile(
    r"</?(?:p|div|li|ul|ol|h[1-6]|tr|blockquote)\b[^>]{0,1000}>|<br\s{0,9}/?>", re.I
)
_MARKUP = re.compile(r"<[a-zA-Z/!]|&[a-zA-Z#]")
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
        text = clean("".join(what for kind, what in tokens(marked) if kind == "text"))
    text = _EMPTY_LINES.sub("\n", _BLANKS.sub(" ", text)).strip()
    return text[:MAX_DESCRIPTION]
