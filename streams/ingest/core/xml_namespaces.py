"""The namespaces that feeds use, by their names as publishers spell them."""

from __future__ import annotations

from functools import lru_cache

import podcastparser

_WITHOUT_SCHEME = ("https://", "http://", "//")
# podcastparser knows the podcast namespace by its documents' addresses only; this is its name.
_MORE = {
    "https://podcastindex.org/namespace/1.0": "podcast",
    "http://purl.org/atom/ns#": "atom",
    "http://purl.org/dc/elements/1.0/": "dc",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://purl.org/dc/terms/": "dcterms",
    "http://purl.oclc.org/net/rss_2.0/enc#": "enc",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf",
}


@lru_cache(maxsize=1_000)
def _canonical(name: str) -> str:
    """The name of a namespace without what spellings differ in: case, scheme, `www.`, slash."""
    plain = name.strip().lower().partition("?")[0]
    for scheme in _WITHOUT_SCHEME:
        plain = plain.removeprefix(scheme)
    return plain.removeprefix("www.").rstrip("/#")


# Of these any version, document or misspelling of theirs is meant.
_FAMILIES = {
    "itunes.com/": "itunes",
    "apple.com/itunes": "itunes",
    "podcastindex-org/podcast-namespace": "podcast",
    "podcastindex.org/": "podcast",
    "podcastnamespace.org": "podcast",
    "yahoo.com/mrss": "media",
    "google.com/schemas/play-podcasts": "googleplay",
}
_PREFIXES = {
    _canonical(name): prefix
    for name, prefix in (podcastparser.Namespace.NAMESPACES | _MORE).items()
}


_DECLARABLE = frozenset((*_PREFIXES.values(), *_FAMILIES.values()))
UNKNOWN = "!"
"""What marks the name of an element whose namespace is none of these."""


def _prefix_of(name: str) -> str | None:
    if name in _PREFIXES:
        known: str = _PREFIXES[name]
        return known
    return next((known for part, known in _FAMILIES.items() if part in name), None)


def passed_over(name: str) -> str:
    """A note on an element that `Namespace.map` marked, if its prefix promises what is known."""
    prefix = name.removeprefix(UNKNOWN).partition(":")[0]
    if not name.startswith(UNKNOWN) or prefix.lower() not in _DECLARABLE:
        return ""
    return f"the namespace of {prefix[:20]} is not known: its elements were passed over"


class Namespace(podcastparser.Namespace):  # type: ignore[misc, unused-ignore]
    """The namespaces in force at an element, compared without what their spellings differ in."""

    def map(self, name: str) -> str:
        """The name of an element with the prefix that its namespace usually has.

        A prefix that nobody declared stays; one of an unknown namespace is marked with `!`, and an
        element of an unknown default namespace begins with `None:`.
        """
        prefix, colon, local = name.rpartition(":")
        uri = self.lookup(prefix)
        if uri is None or (colon and not uri.strip()):
            usual = prefix.lower()
            return f"{usual}:{local}" if usual in _DECLARABLE else name
        known = _prefix_of(_canonical(uri[:200]))
        if known is None and colon:
            return f"{UNKNOWN}{prefix}:{local}"
        return f"{known}:{local}"
