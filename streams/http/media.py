"""Which types of content are taken for what, by what servers say in Content-Type."""

from __future__ import annotations

from dataclasses import dataclass

_UNSAID = frozenset(
    (
        "",
        "application/octet-stream",
        "application/x-octet-stream",
        "binary/octet-stream",
        "application/download",
        "application/x-download",
        "application/force-download",
        "application/unknown",
        "unknown/unknown",
        "application/gzip",
        "application/x-gzip",
    )
)
"""What servers say that do not know; the body then decides."""

_CAPTIONS = frozenset(
    (
        "application/json",
        "application/srt",
        "application/subrip",
        "application/x-subrip",
        "application/x-srt",
        "application/vtt",
        "application/x-vtt",
        "application/xhtml+xml",
        "application/txt",
        "application/text",
    )
)
_XML = frozenset(("application/xml", "application/rss", "application/x-rss", "application/x-xml"))


@dataclass(frozen=True)
class Accept:
    """Content types that are taken; ``wanted`` says in words what was asked for."""

    wanted: str
    families: tuple[str, ...]
    """Types by their first part: `text/`."""
    types: frozenset[str]
    suffixes: tuple[str, ...] = ()
    """Structured types by their last part: `+xml`."""

    def refusal(self, content_type: str) -> str | None:
        """Why a body of this type is not read; None if it is."""
        mime = content_type.partition(";")[0].partition(",")[0].strip().lower()
        if mime in self.types or mime.startswith(self.families) or mime.endswith(self.suffixes):
            return None
        return f"the server sent {mime[:80]!r} where {self.wanted} was expected"


TRANSCRIPT = Accept("a transcript", ("text/",), _UNSAID | _CAPTIONS | _XML, ("+xml", "+json"))
FEED = Accept("a feed", ("text/",), _UNSAID | _XML, ("+xml",))
AUDIO = Accept("an audio file", ("audio/", "video/"), _UNSAID | {"application/ogg"})
ANY_DOCUMENT = Accept("text", ("text/",), TRANSCRIPT.types | FEED.types, ("+xml", "+json"))
ANY_FILE = Accept("a file", ("text/", "application/"), frozenset(("",)))
"""For what a person asked for and looks at."""
