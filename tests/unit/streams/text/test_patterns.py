"""Patterns mean the same in every Python that is supported."""

from __future__ import annotations

import ast
import re

import pytest

from tests.paths import ROOT

POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{{1,2}[\d,]*\}{1,2})\+")
SOURCES = [
    path
    for folder in ("schemas", "topology", "streams", "jobs", "dashboard")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def texts_of(tree: ast.Module) -> set[str]:
    """What the literals say; of an f-string, with nothing where it has values."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part for part in node.values if isinstance(part, ast.Constant)]
            found.add("".join(str(part.value) for part in parts))
        elif isinstance(node, ast.Constant):
            value = node.value
            found.add(value.decode("latin-1") if isinstance(value, bytes) else str(value))
    return found


def test_no_group_has_a_possessive_quantifier() -> None:
    """Before Python 3.11.5 such a group with an alternative in it misses matches: Debian 12 has
    3.11.2. `(?>(?:...)*)` means what `(?:...)*+` does, and is right in all of them."""
    assert POSSESSIVE_GROUP.search(r"(?:a|b)*+")
    assert POSSESSIVE_GROUP.search(r"(?:a|b){2,}+")
    assert not POSSESSIVE_GROUP.search(r"[^)]*+ \)++ (a)+ (?>(?:a|b)*)")
    assert len(SOURCES) > 100
    for path in SOURCES:
        for text in texts_of(ast.parse(path.read_text())):
            if found := POSSESSIVE_GROUP.search(text):
                pytest.fail(f"{path.relative_to(ROOT)}: {text[: found.end()]}")


@pytest.mark.parametrize(("text", "length"), [("ab", 2), ("abab-", 4)])
def test_what_stands_for_it_never_gives_back(text: str, length: int) -> None:
    assert re.match(r"(?>(?:a|b)*)", text).end() == length  # type: ignore[union-attr]
    assert not re.match(r"(?>(?:a|b)*)b", text)
