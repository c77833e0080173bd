"""Versions of what derives from the events: one namespace each, and every name that it gives.

The first version is the instance itself, under the names that it has always had. Another one lies
beside it: its stages are groups of their own, with topics, logs of state, a database and folders
of their own, whose names all begin, or end, with that of the version. What they read of others,
such as `user-events`, has one name for all.
"""

from __future__ import annotations

import re

APP_PREFIX = "podstream"

FIRST = "v1"
"""How the first version is called, whose names bear no version."""

PATTERN = r"^$|^v([2-9]|[1-9]\d{1,3})$"
"""What the setting `PODSTREAM_VERSION` may be; empty is the first version."""

_OF_A_VERSION = re.compile(rf"^{APP_PREFIX}-(v\d+)-")


def shown(version: str) -> str:
    """A version as people call it."""
    return version or FIRST


def setting(name: str) -> str:
    """The setting `PODSTREAM_VERSION` of a version as people call it. ValueError for no such name.

    >>> setting("v1"), setting("v2")
    ('', 'v2')
    """
    if name == FIRST:
        return ""
    if not name or not re.match(PATTERN, name):
        raise ValueError(f"{name!r} is no version: they are called v1, v2, v3 and so on")
    return name


def number(name: str) -> int:
    """Which one it is: 2 for `v2`."""
    return int(shown(name)[1:])


def prefix(version: str) -> str:
    """What the names of a version's groups, topics and logs of state begin with.

    >>> prefix(""), prefix("v2")
    ('podstream-', 'podstream-v2-')
    """
    return f"{APP_PREFIX}-{version}-" if version else f"{APP_PREFIX}-"


def own_name(topic: str, version: str) -> str:
    """What a topic of the declaration is called, where a version has one of its own.

    >>> own_name("episode-days", ""), own_name("episode-days", "v2")
    ('episode-days', 'podstream-v2-episode-days')
    """
    begun = prefix(version)
    return topic if not version or topic.startswith(begun) else begun + topic


def version_of(topic: str) -> str:
    """Whose a topic is, by its name; empty for the first version, or nobody's."""
    found = _OF_A_VERSION.match(topic)
    return found[1] if found else ""


def beside(place: str, version: str) -> str:
    """A database, or a folder, of a version, by that of the first one.

    >>> beside("podstream", ""), beside("podstream", "v2")
    ('podstream', 'podstream-v2')
    """
    return f"{place.rstrip('/')}-{version}" if version else place
