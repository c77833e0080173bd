"""The namespaces that feeds use, by their names as publishers spell them."""

from __future__ import annotations

from functools import lru_cache

import podcastparser

_WITHOUT_SCHEME = ("https://", "http://")
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
    plain = name.strip().lower()
    for scheme in _WITHOUT_SCHEME:
        plain = plain.removeprefix(scheme)
    return plain.removeprefix("www.").rstrip("/#")


_PREFIXES = {
    _canonical(name): prefix
    for name, prefix in (podcastparser.Namespace.NAMESPACES | _MORE).items()
}


class Namespace(podcastparser.Namespace):  # type: ignore[misc, unused-ignore]
    """The namespaces in force at an element, compared without what their spellings differ in."""

    def map(self, name: str) -> str:
        """The name of an element with the prefix that its namespace usually has.

        A prefix that nobody declared stays; one of an unknown namespace is marked with `!`, and an
        element of an unknown default namespace begins with `None:`.
        """
        prefix, colon, local = name.rpartition(":")
        uri = self.lookup(prefix)
        if uri is None:
            return name
        known = _PREFIXES.get(_canonical(uri[:200]))
        if known is None and colon:
            return f"!{prefix}:{local}"
        return f"{known}:{local}"
