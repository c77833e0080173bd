"""Documents between their bytes and their meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

from streams.cli.local.mongo_server import errors, keys
from streams.cli.local.mongo_server.errors import CommandError

Document = dict[str, Any]

LARGEST = 16 * 1024 * 1024
"""Bytes of a document."""

OPTIONS: CodecOptions[Document] = CodecOptions(
    document_class=dict, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
"""Times come without a zone, and as milliseconds where Python has no such year."""


def decoded(raw: bytes | memoryview) -> Document:
    """A document from its bytes."""
    return bson.decode(raw, OPTIONS)


def encoded(document: Mapping[str, Any]) -> bytes:
    """A document as bytes. Raises CommandError if it is too large."""
    raw = bytes(document.raw) if isinstance(document, RawBSONDocument) else bson.encode(document)
    if len(raw) > LARGEST:
        raise CommandError(errors.TOO_LARGE, f"The document has {len(raw)} bytes")
    return raw


def keyed(document: Document, paths: Iterable[str]) -> dict[str, bytes | None]:
    """The keys of fields (dotted paths); None where the value has no key."""
    made: dict[str, bytes | None] = {}
    for path in paths:
        try:
            made[path] = keys.key(_value(document, path))
        except keys.NoKeyError:
            made[path] = None
    return made


def _value(document: Document, path: str) -> Any:
    value: Any = document
    for part in path.split("."):
        if isinstance(value, list):
            return value
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def values_at(value: Any, path: str) -> list[Any]:
    """Every value of a dotted path, also through arrays; the items of an array singly."""
    found = [value]
    for part in path.split("."):
        found = [
            each[part]
            for outer in found
            for each in (outer if isinstance(outer, list) else [outer])
            if isinstance(each, Mapping) and part in each
        ]
    return [item for each in found for item in (each if isinstance(each, list) else [each])]
