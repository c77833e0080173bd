"""Mends XML that breaks the rules in one of the ways in which feeds usually do."""

from __future__ import annotations

import codecs
import html
import re
from html.entities import html5

OF_XML = frozenset(("amp", "lt", "gt", "quot", "apos"))
"""The entities that XML knows."""

_DECLARED = re.compile(rb"\s{0,100}<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([\w.-]{1,40})")
_XML_DECLARATION = re.compile(r"\A<\?xml[^>]{0,1000}\?>")
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REFERENCE = re.compile(r"&(?:(#x?[0-9a-fA-F]{1,8}|[a-zA-Z][a-zA-Z0-9]{1,31});)?")
# Those that expat leaves alone; the rest of Python's codecs is not for strangers to choose from.
_WIDE_CODECS = re.compile(r"big5|cp932|cp949|euc_jp|euc_kr|gb18030|gb2312|gbk|iso2022_jp|shift_jis")


def mended_xml(body: bytes) -> bytes:
    """A feed without what XML forbids and publishers write all the same, as UTF-8.

    That is: bytes of another encoding, blanks before the declaration, control characters, names of
    HTML entities, and ampersands that begin no entity.
    """
    text = _NO_XML.sub("", _decoded(body))
    text = _XML_DECLARATION.sub("", text[max(text.find("<"), 0) :])
    first, *sections = text.split("<![CDATA[")
    parts = [_REFERENCE.sub(_mended_reference, first)]
    for section in sections:
        inside, end, outside = section.partition("]]>")
        parts += ["<![CDATA[", inside, end, _REFERENCE.sub(_mended_reference, outside)]
    return "".join(parts).encode("utf-8", "replace")


def _decoded(body: bytes) -> str:
    if body.startswith(codecs.BOM_UTF8):
        body = body[3:]
    if declared := _DECLARED.match(body):
        try:
            codec = codecs.lookup(declared[1].decode()).name
        except LookupError:
            codec = ""
        if _WIDE_CODECS.fullmatch(codec):
            return body.decode(codec, "replace")
    # Hosts paste lines of Windows-1252 into UTF-8: the lines that are UTF-8 stay so.
    return "\n".join(map(_decoded_line, body.split(b"\n")))


def _decoded_line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def _mended_reference(found: re.Match[str]) -> str:
    name = found[1]
    if not name:
        return "&amp;"
    if name in OF_XML:
        return found[0]
    if name.startswith("#"):
        return html.escape(_NO_XML.sub("", html.unescape(found[0])))
    known = html5.get(f"{name};")
    return html.escape(known) if known else f"&amp;{name};"
