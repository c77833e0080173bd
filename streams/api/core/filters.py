"""Which episodes an answer may name, and where trending ones are looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams.engagement.core.trending import ALL, both_scope, category_scope, language_scope

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Filters:
    """What an answer is narrowed to; None does not narrow it.

    ``language`` is a BCP-47 tag and takes its regions along: `en` takes `en-GB`. ``category`` is
    compared without regard to case. ``explicit`` is the publisher's mark.
    """

    language: str | None = None
    category: str | None = None
    explicit: bool | None = None

    @property
    def narrow(self) -> bool:
        """Whether anything is left out at all."""
        return self != Filters()

    def admit(self, episode: Document | None) -> bool:
        """Whether an episode may be named; one whose record is unknown only without filters."""
        if not self.narrow:
            return True
        if episode is None:
            return False
        return (
            (self.language is None or _speaks(episode["language"], self.language))
            and (self.category is None or _is_in(episode["categories"], self.category))
            and (self.explicit is None or bool(episode["explicit"]) is self.explicit)
        )

    def scopes(self) -> list[str]:
        """The rankings in which such episodes are found, the closest first, `all` last."""
        found = []
        if self.category and self.language:
            found.append(both_scope(self.category, self.language))
        if self.category:
            found.append(category_scope(self.category))
        if self.language:
            found.append(language_scope(self.language))
        return [*found, ALL]


def _speaks(tag: str, wanted: str) -> bool:
    tag, wanted = tag.casefold(), wanted.casefold()
    return tag == wanted or tag.startswith(f"{wanted}-")


def _is_in(categories: list[str], wanted: str) -> bool:
    return wanted.casefold() in (category.casefold() for category in categories)
