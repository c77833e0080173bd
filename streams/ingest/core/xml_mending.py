"""Mends XML that breaks the rules in one of the ways in which feeds usually do."""

from __future__ import annotations

import codecs
import html
import re
from html.entities import html5

from streams.http.charsets import wide_encoding
from streams.text.notes import Notes

OF_XML = frozenset(("amp", "lt", "gt", "quot", "apos"))
"""The entities that XML knows."""

_DECLARED = re.compile(rb"\s{0,100}<\?xml[^>]{0,200}?encoding\s{0,9}=\s{0,9}[\"']([\w.-]{1,40})")
_MARKS_OF_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MARKS_OF_UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_LATIN_1 = ("iso-8859-1", "iso8859-1", "latin-1", "latin1", "us-ascii", "ascii")
_BEYOND_LATIN_1 = re.compile(rb"[\x80-\x9f]")
"""Controls that nobody writes in Latin-1; quotation marks, dashes and the euro in Windows-1252."""
_XML_DECLARATION = re.compile(r"\A(?:\s{0,99}<\?xml\s[^>]{0,1000}\?>){1,9}")
_BEGINS = re.compile(r"<\?xml\s|<(?:rss|feed|opml|rdf:RDF|[a-z]{1,10}:feed)[\s>]")
_LOOKED_AT = 20_000
"""Characters in which a document must have begun: warnings of a server are shorter."""
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REFERENCE = re.compile(r"&(?:(#x?[0-9a-fA-F]{1,8}|[a-zA-Z][a-zA-Z0-9]{1,31});)?")
_BARE_ANGLE = re.compile(r"<(?=[^A-Za-z_:/!?\x80-\U0010ffff])")
# A tag never holds another one's beginning: what does is text.
_NO_TAG = re.compile(r"<(?=[A-Za-z][^<>]{0,1000}<)")
_COMMENT = re.compile(r"<!--((?>(?:[^-]++|-(?!->))*))(-->|\Z)")
_VALUE = r"(?:\"[^\"]*+\"|'[^']*+'|(?>(?:[^\s\"'<>=/]++|/(?!>))+))"
# Attributes without quotes, without a blank between them, or with `<` in them.
_LOOSE_TAG = re.compile(
    r"<(?P<name>[A-Za-z_:][^\s=<>\"'/!?]*+)"
    rf"(?P<said>(?>(?:\s*+[A-Za-z_:][\w.:-]*+\s*+=\s*+{_VALUE})+))"
    r"(?P<end>\s*+/?>)"
)
_LOOSE_ATTRIBUTE = re.compile(rf"\s*+([A-Za-z_:][\w.:-]*+)\s*+=\s*+({_VALUE})")
_ATTRIBUTE = r"[\s]++[^\s=<>\"'/]++\s*+=\s*+(?:\"[^\"<]*+\"|'[^'<]*+')"
_TAG = re.compile(rf"<[^\s=<>\"'/!?]++(?>(?:{_ATTRIBUTE}){{2,}})")
_ONE_ATTRIBUTE = re.compile(r"\s++([^\s=<>\"'/]++)\s*+=\s*+(?:\"[^\"<]*+\"|'[^'<]*+')")
# Those that expat leaves alone; the rest of Python's codecs is not for strangers to choose from.
_WIDE_CODECS = re.compile(r"big5|cp932|cp949|euc_jp|euc_kr|gb18030|gb2312|gbk|iso2022_jp|shift_jis")


def mended_xml(body: bytes, notes: Notes | None = None) -> bytes:
    """A feed without what XML forbids and publishers write all the same, as UTF-8.

    That is: bytes of another encoding, anything before the declaration, control characters, names
    of HTML entities, ampersands that begin no entity, angle brackets that begin no tag, and
    attributes that an element has twice, of which the first counts. ``notes`` is told which.
    """
    notes = Notes() if notes is None else notes
    decoded = _decoded(body, notes)
    text = _NO_XML.sub("", decoded)
    if text != decoded:
        notes.add("control characters left out")
    begins = _BEGINS.search(text[:_LOOKED_AT])
    start = begins.start() if begins else max(text.find("<"), 0)
    if text[:start].strip("\ufeff \t\r\n"):
        notes.add(f"{start} characters before the beginning of the document left out")
    text = _XML_DECLARATION.sub("", text[start:])
    first, *sections = text.split("<![CDATA[")
    parts = [_mended_markup(first, notes)]
    for section in sections:
        inside, end, outside = section.partition("]]>")
        parts += ["<![CDATA[", inside, end, _mended_markup(outside, notes)]
    return "".join(parts).encode("utf-8", "replace")


def declared_otherwise(body: bytes) -> str:
    """The encoding that a document declares though its bytes, beyond ASCII, are UTF-8; or ''."""
    if body.startswith(_MARKS_OF_UTF_16) or b"\0" in body[:100]:
        return ""
    declared = _DECLARED.match(body.removeprefix(codecs.BOM_UTF8))
    name = declared[1].decode() if declared else ""
    if name.lower() in ("", "utf-8", "utf8") or body.isascii():
        return ""
    try:
        body.decode()
    except UnicodeDecodeError:
        return ""
    return name


def encoding_of(body: bytes) -> tuple[str, str]:
    """(encoding, note) of a document that is in another one than it declares, as its bytes show:
    UTF-8, UTF-16 by its mark, or Windows-1252 for Latin-1; both empty for any other."""
    if name := declared_otherwise(body):
        return "utf-8", f"declared as {name}, but it is UTF-8"
    if body.startswith(_MARKS_OF_UTF_16) and not body.startswith(MARKS_OF_UTF_32):
        return "utf-16", ""
    if wide := wide_encoding(body):
        narrow = _DECLARED.match(body.replace(b"\0", b""))
        otherwise = narrow[1].decode() if narrow and b"16" not in narrow[1] else ""
        note = f"declared as {otherwise}, but it is UTF-16" if otherwise else ""
        return wide.replace("-16-", "-16"), note
    declared = _DECLARED.match(body)
    said = declared[1].decode().lower() if declared else ""
    if said in _LATIN_1 and _BEYOND_LATIN_1.search(body):
        return "windows-1252", f"declared as {said}, but it is Windows-1252"
    return "", ""


def _cp1252_bytes(error: UnicodeError) -> tuple[str, int]:
    """The bytes that are no UTF-8 as Windows-1252: hosts paste its lines and words into UTF-8."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


codecs.register_error("cp1252-bytes", _cp1252_bytes)


def _decoded(body: bytes, notes: Notes) -> str:
    if body.startswith(MARKS_OF_UTF_32):
        return body.decode("utf-32", "replace")
    if body.startswith(_MARKS_OF_UTF_16):
        return body.decode("utf-16", "replace")
    known, note = encoding_of(body)
    notes.add(note)
    if known == "windows-1252":
        return body.decode("cp1252", "replace")
    if known.startswith("utf-16"):
        return body.decode(known, "replace")
    if body.startswith(codecs.BOM_UTF8):
        body = body[3:]
    if (declared := _DECLARED.match(body)) and not declared_otherwise(body):
        try:
            codec = codecs.lookup(declared[1].decode()).name
        except LookupError:
            codec = ""
        if _WIDE_CODECS.fullmatch(codec):
            return body.decode(codec, "replace")
    try:
        return body.decode()
    except UnicodeDecodeError:
        notes.add("bytes that are no UTF-8 read as Windows-1252")
    return body.decode("utf-8", "cp1252-bytes")


def _mended_markup(text: str, notes: Notes) -> str:
    mended = _REFERENCE.sub(_mended_reference, text)
    if mended != text:
        notes.add("ampersands that begin no entity of XML mended")
    plain = _COMMENT.sub(lambda c: "" if c[2] and "--" in c[1] else c[0], mended)
    if plain != mended:
        notes.add("comments with -- in them left out")
    strict = _LOOSE_TAG.sub(_with_strict_attributes, plain)
    if strict != plain:
        notes.add("attributes without quotes or blanks, or with < in them, mended")
    single = _TAG.sub(lambda tag: _without_repeats(tag, notes), strict)
    whole = _NO_TAG.sub("&lt;", _BARE_ANGLE.sub("&lt;", single)).replace("]]>", "]]&gt;")
    if whole != single:
        notes.add("angle brackets that begin no tag mended")
    return whole


def _with_strict_attributes(tag: re.Match[str]) -> str:
    """A tag with its attributes as XML wants them; the tag as it is where they are so."""

    def strict(attribute: re.Match[str]) -> str:
        name, value = attribute[1], attribute[2]
        if attribute[0][0].isspace() and value[0] in "\"'" and "<" not in value:
            return attribute[0]
        quote = value[0] if value[0] in "\"'" else '"'
        inside = value.strip(quote).replace("<", "&lt;")
        return f" {name}={quote}{inside}{quote}"

    said = _LOOSE_ATTRIBUTE.sub(strict, tag["said"])
    return f"<{tag['name']}{said}{tag['end']}"


def _without_repeats(tag: re.Match[str], notes: Notes) -> str:
    """A start tag with the first of attributes that have one name; what follows them is kept."""
    names: set[str] = set()

    def once(attribute: re.Match[str]) -> str:
        if attribute[1] in names:
            notes.add(f"attribute {attribute[1][:60]} twice: the first counts")
            return ""
        names.add(attribute[1])
        return attribute[0]

    return _ONE_ATTRIBUTE.sub(once, tag[0])


def _mended_reference(found: re.Match[str]) -> str:
    name = found[1]
    if not name:
        return "&amp;"
    if name in OF_XML:
        return found[0]
    if name.startswith("#"):
        written = html.unescape(found[0])
        # HTML has a sign for what is none.
        return html.escape(_NO_XML.sub("", written if written != "\ufffd" else ""))
    known = html5.get(f"{name};")
    return html.escape(known) if known else f"&amp;{name};"
