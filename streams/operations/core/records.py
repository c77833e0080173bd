"""Avro records out of JSON objects: what `podstream produce` takes for each topic."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from streams.operations.core.imports import RowError, milliseconds, parse_time

_INTEGERS = {"int": 31, "long": 63}


def record_of(value: Any, avro: Any, path: str = "") -> Any:
    """``value`` as fastavro writes it by the schema ``avro`` (JSON data, types defined inline).

    Times are ISO 8601 text or whole milliseconds since 1970, dates ISO 8601 text, bytes base64.
    Fields with a default may be missing. RowError, with the path of the field, if it does not fit.
    """
    if isinstance(avro, list):
        return _union(value, avro, path)
    kind = avro["type"] if isinstance(avro, dict) else avro
    logical = avro.get("logicalType") if isinstance(avro, dict) else None
    if kind == "record":
        return _record(value, avro, path)
    if kind == "array" and isinstance(value, list):
        return [record_of(v, avro["items"], f"{path}[{n}]") for n, v in enumerate(value)]
    if kind == "map" and isinstance(value, dict):
        return {k: record_of(v, avro["values"], f"{path}.{k}") for k, v in value.items()}
    if kind == "enum":
        if value in avro["symbols"]:
            return value
        raise RowError(f"{path}: {value!r} is none of {', '.join(avro['symbols'])}")
    if logical in ("timestamp-millis", "date") and isinstance(value, str):
        try:
            moment = parse_time(value)
        except RowError as error:
            raise RowError(f"{path}: {error}") from None
        return milliseconds(moment) if logical == "timestamp-millis" else moment.date()
    if kind == "bytes" and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise RowError(f"{path}: no base64") from None
    if _fits(value, kind):
        return value
    raise RowError(f"{path or 'the record'}: {value!r} is no {logical or kind}")


def _fits(value: Any, kind: str) -> bool:
    if kind in _INTEGERS:
        limit = 1 << _INTEGERS[kind]
        return isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit
    if kind in ("float", "double"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    types = {"string": str, "boolean": bool, "null": type(None)}
    return kind in types and isinstance(value, types[kind])


def _union(value: Any, branches: list[Any], path: str) -> Any:
    if value is None and "null" in branches:
        return None
    others = [branch for branch in branches if branch != "null"]
    for branch in others[:-1]:
        try:
            return record_of(value, branch, path)
        except RowError:
            continue
    return record_of(value, others[-1], path)


def _record(value: Any, avro: Mapping[str, Any], path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowError(f"{path or 'the record'} is no JSON object")
    fields = {field["name"]: field for field in avro["fields"]}
    dot = f"{path}." if path else ""
    unknown = [name for name in value if name not in fields]
    if unknown:
        raise RowError(f"{dot}{unknown[0]} is no field of {avro['name']}: {', '.join(fields)}")
    record = {}
    for name, field in fields.items():
        if name in value:
            record[name] = record_of(value[name], field["type"], dot + name)
        elif "default" in field:
            record[name] = field["default"]
        else:
            raise RowError(f"{dot}{name} missing")
    return record


def key_of(record: Mapping[str, Any], fields: tuple[str, ...]) -> str:
    """The message key that these fields make. RowError if other values would make the same."""
    values = [str(record[name]) for name in fields]
    if len(values) > 1 and (odd := [value for value in values if "|" in value]):
        raise RowError(f"{odd[0]!r} has | in it, which stands between the fields of the key")
    return "|".join(values)
