"""Values as bytes that compare as MongoDB compares the values.

A key is one byte for the type, in the order in which MongoDB sorts types, and the value in a form
whose bytes sort as the values do. What has no such form (arrays, which are indexed by their items,
documents, decimals, expressions) has no key: a field with such a value is never asked by key.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import bson
from bson import Binary, DatetimeMS, MaxKey, MinKey, ObjectId, Timestamp
from bson.raw_bson import RawBSONDocument

NULL: Final = b"\x05"
"""The key of null, and of a field that is missing."""

_NUMBER, _STRING, _DOCUMENT, _BINARY = b"\x0a", b"\x0f", b"\x14", b"\x1e"
_OBJECT_ID, _BOOLEAN, _DATE, _TIMESTAMP = b"\x23", b"\x28", b"\x2d", b"\x2f"
_MIN_KEY, _MAX_KEY = b"\x01", b"\x7f"

_SIGN = 1 << 63
_ALL = (1 << 64) - 1
_EXACT = 1 << 53
"""Up to here every integer is a float of its own."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NoKeyError(ValueError):
    """The value has no key."""


def key(value: Any) -> bytes:
    """The key of a value as `bson` decodes it. Raises NoKeyError if it has none."""
    match value:
        case None:
            return NULL
        case bool():
            return _BOOLEAN + bytes([value])
        case int():
            return _NUMBER + _integer(value)
        case float():
            return _NUMBER + _float(value) + _signed(0)
        case str():
            return _STRING + value.encode("utf-8", "surrogatepass")
        case datetime():
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            # by integers: a float of seconds is off by a millisecond here and there
            elapsed = aware - _EPOCH
            return _DATE + _signed(
                (elapsed.days * 86_400 + elapsed.seconds) * 1000 + elapsed.microseconds // 1000
            )
        case DatetimeMS():
            return _DATE + _signed(int(value))
        case ObjectId():
            return _OBJECT_ID + value.binary
        case bytes():
            subtype = value.subtype if isinstance(value, Binary) else 0
            return _BINARY + struct.pack(">IB", len(value), subtype) + value
        case Timestamp():
            return _TIMESTAMP + struct.pack(">II", value.time, value.inc)
        case MinKey():
            return _MIN_KEY
        case MaxKey():
            return _MAX_KEY
    raise NoKeyError(f"{type(value).__name__} has no key")


def id_key(value: Any) -> bytes:
    """The key of an ``_id``, which may also be a document. Raises NoKeyError for an array."""
    if isinstance(value, RawBSONDocument):
        return _DOCUMENT + value.raw
    if isinstance(value, Mapping):
        return _DOCUMENT + bson.encode(value)
    return key(value)


def type_range(of: bytes) -> tuple[bytes, bytes]:
    """The least key of the type of a key, and the least that is beyond all of them."""
    return of[:1], bytes([of[0] + 1])


def _integer(value: int) -> bytes:
    if -_EXACT <= value <= _EXACT:
        return _float(float(value)) + _signed(0)
    near = float(value)
    return _float(near) + _signed(value - int(near))


def _float(value: float) -> bytes:
    if math.isnan(value):  # less than every number
        return bytes(8)
    (bits,) = struct.unpack(">Q", struct.pack(">d", value + 0.0))  # -0.0 is 0.0
    return struct.pack(">Q", bits ^ (_ALL if bits & _SIGN else _SIGN))


def _signed(value: int) -> bytes:
    return struct.pack(">Q", value + _SIGN)
