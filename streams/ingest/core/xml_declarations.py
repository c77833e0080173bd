"""What a document may declare about itself: nothing that makes it larger than it is."""

from __future__ import annotations

import re

from streams.ingest.core.xml_mending import OF_XML

LONGEST_ENTITY = 32

_NESTED = re.compile(r"&([^#;]{1,200});")


class DeclarationError(ValueError):
    """A document declares what it may not; the message says what."""


class Declarations:
    """Handlers of expat that let harmless declarations pass, and refuse a document with others."""

    def __init__(self) -> None:
        self._unfolded = dict.fromkeys(OF_XML, 1)

    def check_entity(self, name: str, _: object, value: str | None, *__: object) -> None:
        """Let short entities pass, but none that could unfold a small feed into a large one.

        Entities in files and on other hosts (``value`` None) are never read: they are empty.
        """
        value = value or ""
        nested = _NESTED.findall(value)
        # What is declared later may be of any length, and what is declared twice has the longer.
        within = (self._unfolded.get(inner, LONGEST_ENTITY + 1) for inner in nested)
        # A reference counts itself: one to nothing costs time as well.
        size = sum(within, len(_NESTED.sub("", value)) + len(nested))
        self._unfolded[name] = max(size, self._unfolded.get(name, 0))
        if size > LONGEST_ENTITY:
            raise DeclarationError(
                f"entity {name[:60]} unfolds to more than {LONGEST_ENTITY} characters"
            )
        if "<" in value:
            raise DeclarationError(f"entity {name[:60]} holds markup")

    def check_attribute(self, element: str, name: str, *_: object) -> None:
        """Refuse all: a default is repeated for each of the elements, which may be many."""
        raise DeclarationError(f"attribute {name[:60]} of <{element[:60]}> is declared")
