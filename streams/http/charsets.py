"""Reads bytes as text, whatever charset strangers say they are in, or do not say."""

from __future__ import annotations

import codecs
import re

from streams.text.notes import Notes

_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?([A-Za-z0-9_-]{1,40})", re.I)
_NOT_CHARSETS = ("idna", "punycode", "raw-unicode-escape", "unicode-escape")


def decode(body: bytes, charset: str | None = None, notes: Notes | None = None) -> str:
    """Bytes as text by byte order mark, else UTF-8, else the charset announced, else Windows-1252.

    UTF-8 with a few broken bytes stays UTF-8. Latin-1 is read as Windows-1252, as browsers do.
    ``notes`` is told which charset was overruled or guessed, and that bytes were broken.
    """
    notes = Notes() if notes is None else notes
    if body.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return body.decode("utf-32", "replace").lstrip("\ufeff")
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return body.decode("utf-16", "replace").lstrip("\ufeff")
    if charset is None and (meta := _META_CHARSET.search(body[:1024])):
        charset = meta.group(1).decode()
    for encoding in (wide_encoding(body), "utf-8", _codec(charset)):
        try:
            text = body.decode(encoding).lstrip("\ufeff")
        except (UnicodeError, LookupError, ValueError):
            continue
        if charset and encoding == "utf-8" != _codec(charset) and not body.isascii():
            notes.add(f"announced as {charset[:40]}, but it is UTF-8")
        return text
    text = body.decode("utf-8", "replace").lstrip("\ufeff")
    beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
    if text.count("\ufffd") * 4 <= beyond_ascii:
        notes.add("bytes that are no UTF-8 replaced")
        return text
    notes.add("charset not known: read as Windows-1252")
    try:
        return body.decode("cp1252")
    except UnicodeError:
        return body.decode("latin-1")


def _codec(charset: str | None) -> str:
    """The codec for a charset that a stranger named, or '' for none we would use."""
    try:
        name = codecs.lookup(charset or "").name
    except (LookupError, ValueError):
        return ""
    if name in ("ascii", "iso8859-1"):
        return "cp1252"
    return "" if name in _NOT_CHARSETS else name


def wide_encoding(body: bytes) -> str:
    """The UTF-16 that a body without a byte order mark shows itself to be, or ''."""
    even, odd = body[:400:2].count(0), body[1:400:2].count(0)
    half = min(len(body), 400) // 2
    if max(even, odd) * 10 < half * 7 or min(even, odd) > 0 or half < 4:
        return ""
    return "utf-16-le" if odd else "utf-16-be"
