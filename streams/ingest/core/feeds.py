"""Reads RSS and Atom feeds as they are published, which is not always as XML allows.

podcastparser does the walk; what of it lets one odd tag cost the whole feed, keeps state between
feeds that are parsed at the same time, or takes time with the square of what a feed holds, is
replaced here, and the reading of single elements in `streams.ingest.core.feed_elements`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from xml.parsers import expat

import podcastparser

from streams.http.charsets import wide_encoding
from streams.ingest.core.episodes import MAX_NAMES
from streams.ingest.core.feed_elements import (
    DEEPEST,
    MAPPING,
    MAX_LISTED,
    RDF,
    ROOTS,
    SPELLINGS,
    audio_of,
)
from streams.ingest.core.xml_declarations import DeclarationError, Declarations
from streams.ingest.core.xml_mending import MARKS_OF_UTF_32, encoding_of, mended_xml
from streams.ingest.core.xml_namespaces import Namespace, passed_over
from streams.text.addresses import lasting_address
from streams.text.notes import MAX_NOTES, Notes
from streams.text.plain_text import MAX_NAME, MAX_SHORT, without_cdata

# A stranger's misspelt dates and prefixes are no events of ours.
logging.getLogger("podcastparser").setLevel(logging.CRITICAL)

MAX_REFUSED = 100
"""Most entries of a feed that are reported as left out."""
MAX_OF_SHOW = 2 * MAX_SHORT
"""Characters of a text about the show, which is read anew for every episode."""

_WITHIN_WORDS = frozenset(
    [
        *("a", "abbr", "b", "cite", "code", "em", "font", "i", "mark", "q", "s"),
        *("small", "span", "strong", "sub", "sup", "u"),
    ]
)
"""Elements of XHTML that part no words."""
_DECLARES = re.compile(rb"<!(?:DOCTYPE|ENTITY)\b")


class FeedError(ValueError):
    """What was published is no feed; the message says why."""


def parse_feed(url: str, body: bytes, max_episodes: int) -> dict[str, Any]:
    """A feed as podcastparser gives them, with its newest ``max_episodes`` entries, newest first.

    Entries without a date come last, in the feed's order. An entry's `transcripts` are a list of
    ``{"url", "type", "language"}``, its `chapters_link` is ``{"url", "type"}``; `persons`, its own
    and the feed's, are ``{"name", "role", "href", "img"}``; its `guid` is as published or, without
    one, the address of its audio or page. Addresses are completed with ``url``. `notes`, the
    feed's and each entry's, say what was dropped, guessed or mended; `refused`, the feed's, has
    (what, why) of each entry that was left out.

    What follows the end of the feed is passed over. Raises FeedError; a body that breaks the rules
    of XML in one of the usual ways is mended first, unless it declares entities of its own.
    """
    try:
        return _parsed(url, body, max_episodes, Notes())
    except FeedError:
        wide = wide_encoding(body[:100]) and not body.startswith(MARKS_OF_UTF_32)
        if _DECLARES.search(body.replace(b"\0", b"")) or wide:
            raise
        notes = Notes()
        mended = mended_xml(body, notes)
        with suppress(FeedError):
            return _parsed(url, mended, max_episodes, notes)
        raise


def _parsed(url: str, body: bytes, max_episodes: int, notes: Notes) -> dict[str, Any]:
    handler = _Handler(url, max_episodes, notes)
    encoding, note = encoding_of(body)
    notes.add(note)
    parser = expat.ParserCreate(encoding or None)
    parser.buffer_text = True
    declarations = Declarations()
    parser.EntityDeclHandler = declarations.check_entity
    parser.AttlistDeclHandler = declarations.check_attribute
    parser.StartElementHandler = handler.startElement
    parser.EndElementHandler = handler.endElement
    parser.CharacterDataHandler = handler.characters
    try:
        # In one go: expat takes square time for long tokens that come in pieces.
        parser.Parse(body, True)
    except FeedError:
        raise
    except DeclarationError as error:
        raise FeedError(str(error)) from error
    except expat.ExpatError as error:
        if not handler.ended:
            raise FeedError(f"line {error.lineno}: {expat.ErrorString(error.code)}") from error
        notes.add(f"line {error.lineno}: what follows the end of the feed was passed over")
    except Exception as error:
        # An encoding that expat cannot read is a ValueError or LookupError, and there may be more.
        raise FeedError(f"{type(error).__name__}: {error}"[:300]) from error
    if handler.root == RDF and not handler.episodes:
        raise FeedError(f"it begins with <!{RDF}>, and lists nothing")
    newest = handler.newest()
    refused = list(handler.refused)
    if older := handler.valid - len(newest):
        refused.append((f"{older} older entries", f"only the newest {max_episodes} are followed"))
    return {**handler.data, "episodes": newest, "refused": refused, "notes": notes.listed()}


class _Handler(podcastparser.PodcastHandler):
    """What podcastparser's does, in bounded time, and with every odd tag left out by itself."""

    namespace: Any
    text: Any

    def __init__(self, url: str, max_episodes: int, notes: Notes) -> None:
        super().__init__(url, max_episodes)
        self.data["title"] = ""
        self.notes = notes
        self.depth = 0
        self.root = ""
        self.ended = False
        self.person: dict[str, Any] = {}
        self.refused: list[tuple[str, str]] = []
        self.valid = 0
        """Entries that can be stored; not all are kept."""

    def set_podcast_attr(self, key: str, value: Any) -> None:
        self.data[key] = value[:MAX_OF_SHOW] if isinstance(value, str) else value

    def append_itunes_category(self, key: str, value: str) -> None:
        if len(self.data.setdefault(key, [])) < 2 * MAX_NAMES:
            super().append_itunes_category(key, value[: 2 * MAX_NAME])

    def append_itunes_subcategory(self, key: str, value: str) -> None:
        if len(self.data[key][-1]) < 2 * MAX_NAMES:
            super().append_itunes_subcategory(key, value[: 2 * MAX_NAME])

    def add_enclosure(self, url: str, file_size: int, mime_type: str | None) -> None:
        if len(self.episodes[-1]["enclosures"]) < MAX_LISTED:
            super().add_enclosure(url, file_size, mime_type)

    def newest(self) -> list[dict[str, Any]]:
        return sorted(self.episodes, key=lambda e: -e["published"])[: self.max_episodes]

    def startElement(self, name: str, attrs: Any) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            return
        self.namespace = Namespace(attrs, self.namespace)
        # A default namespace that nobody knows is a dialect of RSS.
        name = self.namespace.map(name).removeprefix("None:")
        self.notes.add(passed_over(name))
        name = SPELLINGS.get(name.lower(), name)
        if not self.path_stack:
            if name not in ROOTS:
                raise FeedError(f"it begins with <{name[:60]}>")
            self.root = name
        self.path_stack.append(name)
        target = MAPPING.get("/".join(self.path_stack))
        if target is not None:
            # Capitals where the names of attributes have none.
            plain = all(map(str.islower, attrs))
            said = attrs if plain else {key.lower(): value for key, value in attrs.items()} | attrs
            self._try(lambda: target.start(self, said))
            if target.WANT_TEXT:
                self.text = []

    def endElement(self, name: str) -> None:
        self.depth -= 1
        if self.text is not None and name.rpartition(":")[2].lower() not in _WITHIN_WORDS:
            self.text.append(" ")
        if self.depth >= DEEPEST:
            return
        target = MAPPING.get("/".join(self.path_stack))
        if target is not None:
            text = without_cdata("".join(self.text or ()))
            self.text = None
            self._try(lambda: target.end(self, text))
        self.namespace = self.namespace.parent
        self.path_stack.pop()
        self.ended = not self.path_stack

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            # podcastparser lets many kinds of error out, and the tag was written by a stranger.
            self.notes.add(f"an element left out: {type(error).__name__}: {error}")

    def note_of_entry(self, note: str) -> None:
        """Note something on the entry that is being read."""
        noted = self.episodes[-1].setdefault("_notes", [])
        if len(noted) < MAX_NOTES:
            noted.append(note)

    def validate_episode(self) -> None:
        entry = self.episodes[-1]
        permalink = entry.pop("_guid_is_permalink")
        texts = [entry.pop(key, "") for key in ("_content", "_description", "_summary")]
        entry["description_html"] = next(filter(None, texts), "")
        if not entry["link"] and permalink:
            entry["link"] = entry.get("guid", "")
        if not entry.get("guid"):
            # What expires would make it another episode on every poll.
            files = [lasting_address(enclosure["url"]) for enclosure in audio_of(entry)]
            entry["guid"] = next(iter(files), entry["link"])
            if entry["guid"]:
                self.note_of_entry("no guid: the address stands for it")
        entry["notes"] = Notes((entry.pop("_dated", (0, ""))[1], *entry.pop("_notes", ()))).listed()
        if not entry["guid"]:
            reason = "it has neither guid nor address"
            self.notes.add(f"an entry left out: {reason}")
            if len(self.refused) < MAX_REFUSED:
                self.refused.append((f"entry {str(entry.get('title', ''))[:100]!r}", reason))
            self.episodes.pop()
            return
        self.valid += 1
        if len(self.episodes) > 1_000 + 2 * self.max_episodes:
            self.episodes[:] = self.newest()
