"""What commands are given and answer, in the forms that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bson import Int64
from bson.raw_bson import RawBSONDocument

from streams.cli.local.mongo_server import errors
from streams.cli.local.mongo_server.documents import Document, decoded
from streams.cli.local.mongo_server.errors import CommandError

Arguments = Mapping[str, Any]
Command = Callable[[str, Arguments], Document]
"""Takes the name of a database and what was said; gives the answer without its ``ok``."""


def namespace_of(database: str, name: Any) -> str:
    """The namespace of a collection. Raises CommandError for what is no name."""
    if not isinstance(name, str) or not name:
        raise CommandError(errors.INVALID_NAMESPACE, f"Invalid namespace: {database}.{name!r}")
    return f"{database}.{name}"


def plain(document: Any) -> Any:
    """A raw document, decoded; anything else as it is."""
    if isinstance(document, RawBSONDocument):
        return decoded(document.raw)
    return {} if document is None else document


def cursor_answer(namespace: str, batch: list[Any], number: int) -> Document:
    """An answer with the first documents, and the number of the cursor that has the others."""
    return {"cursor": {"id": Int64(number), "ns": namespace, "firstBatch": batch}}
