"""The schema files: which versions of a record exist, and what they say."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import fastavro

FOLDER = Path(__file__).parent
_FILE_NAME = re.compile(r"(?P<name>[a-z_]+)\.v(?P<version>\d+)\.avsc")


@cache
def versions(name: str) -> tuple[int, ...]:
    """The versions of a record that exist, oldest first; KeyError if there is no such record."""
    found = sorted(
        int(match["version"])
        for path in FOLDER.glob("*.avsc")
        if (match := _FILE_NAME.fullmatch(path.name)) and match["name"] == name
    )
    if not found:
        raise KeyError(f"schemas/ has no {name}.v1.avsc")
    return tuple(found)


@cache
def names() -> tuple[str, ...]:
    """Every record that has a schema."""
    return tuple(
        sorted({m["name"] for p in FOLDER.glob("*.avsc") if (m := _FILE_NAME.fullmatch(p.name))})
    )


@cache
def load(name: str, version: int | None = None) -> dict[str, Any]:
    """A record's schema as JSON data, the newest version by default; KeyError if it has none."""
    version = versions(name)[-1] if version is None else version
    schema: dict[str, Any] = json.loads(
        (FOLDER / f"{name}.v{version}.avsc").read_text(encoding="utf-8")
    )
    return schema


@cache
def parsed(name: str, version: int | None = None) -> Any:
    """The same schema, parsed by fastavro."""
    return fastavro.parse_schema(load(name, version))
