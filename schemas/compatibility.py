"""Whether a newer Avro schema can read what older ones wrote, by Avro's resolution rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_PRIMITIVES = frozenset(
    ("null", "boolean", "int", "long", "float", "double", "bytes", "string"),
)
_PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
_INTEGER_LOGICAL = frozenset(
    ("date", "time-millis", "time-micros", "timestamp-millis", "timestamp-micros"),
)


def transitive_problems(reader: Any, writers: Sequence[Any]) -> list[str]:
    """Why ``reader`` cannot read what any of ``writers`` wrote (BACKWARD_TRANSITIVE); [] if it can.

    ``writers`` are the older versions, oldest first; all are schemas as JSON data.
    """
    found: dict[str, None] = {}
    for writer in writers:
        found.update(dict.fromkeys(problems(reader, writer)))
    return list(found)


def problems(reader: Any, writer: Any) -> list[str]:
    """Why ``reader`` cannot read what ``writer`` wrote, one sentence each; [] if it can."""
    return _Comparison(reader, writer).run()


class _Comparison:
    """One walk over two schemas; named types are remembered by full name."""

    def __init__(self, reader: Any, writer: Any):
        self._reader = reader
        self._writer = writer
        self._reader_names: dict[str, Any] = {}
        self._writer_names: dict[str, Any] = {}
        self._seen: set[tuple[str, str]] = set()

    def run(self) -> list[str]:
        reader = _resolve_names(self._reader, "", self._reader_names)
        writer = _resolve_names(self._writer, "", self._writer_names)
        return self._compare(reader, writer, "")

    def _compare(self, reader: Any, writer: Any, path: str) -> list[str]:
        reader = self._reader_names.get(reader, reader) if isinstance(reader, str) else reader
        writer = self._writer_names.get(writer, writer) if isinstance(writer, str) else writer
        if isinstance(writer, list):
            return [p for branch in writer for p in self._compare(reader, branch, path)]
        if isinstance(reader, list):
            if any(not self._compare(branch, writer, path) for branch in reader):
                return []
            return [f"{_at(path)}no branch of the union reads {_name(writer)}"]
        read, wrote = _type(reader), _type(writer)
        if read != wrote:
            if read in _PROMOTIONS.get(wrote, ()):
                return []
            return [f"{_at(path)}{_name(writer)} cannot become {_name(reader)}"]
        match read:
            case "record":
                return self._compare_records(reader, writer, path)
            case "enum":
                return _compare_enums(reader, writer, path)
            case "fixed":
                return _compare_fixed(reader, writer, path)
            case "array":
                return self._compare(reader["items"], writer["items"], f"{path}[]")
            case "map":
                return self._compare(reader["values"], writer["values"], f"{path}{{}}")
        return _compare_logical(reader, writer, path)

    def _compare_records(self, reader: Any, writer: Any, path: str) -> list[str]:
        if not _same_name(reader, writer):
            return [f"{_at(path)}record {writer['name']} cannot become record {reader['name']}"]
        pair = (reader["name"], writer["name"])
        if pair in self._seen:  # a recursive type: its fields are being compared already
            return []
        self._seen.add(pair)
        written = {field["name"]: field for field in writer["fields"]}
        found = []
        for field in reader["fields"]:
            place = f"{path}.{field['name']}" if path else field["name"]
            names = [field["name"], *field.get("aliases", ())]
            match = next((written[name] for name in names if name in written), None)
            if match is not None:
                found += self._compare(field["type"], match["type"], place)
            elif "default" not in field:
                found.append(f"{_at(place)}the field is new and has no default")
        # The verdict on a pair holds for this walk only along this path: another branch of a
        # union may ask again.
        self._seen.discard(pair)
        return found


def _compare_enums(reader: Any, writer: Any, path: str) -> list[str]:
    if not _same_name(reader, writer):
        return [f"{_at(path)}enum {writer['name']} cannot become enum {reader['name']}"]
    lost = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
    if lost and "default" not in reader:
        return [f"{_at(path)}symbols {', '.join(lost)} are gone and the enum has no default"]
    return []


def _compare_fixed(reader: Any, writer: Any, path: str) -> list[str]:
    if not _same_name(reader, writer):
        return [f"{_at(path)}fixed {writer['name']} cannot become fixed {reader['name']}"]
    if reader["size"] != writer["size"]:
        return [f"{_at(path)}fixed of {writer['size']} bytes cannot become {reader['size']} bytes"]
    return []


def _compare_logical(reader: Any, writer: Any, path: str) -> list[str]:
    """Stricter than Avro, which ignores it: the same number would silently mean something else."""
    read, wrote = _logical(reader), _logical(writer)
    if read != wrote and {read, wrote} & _INTEGER_LOGICAL:
        return [f"{_at(path)}logical type {wrote or 'none'} cannot become {read or 'none'}"]
    return []


def _resolve_names(schema: Any, namespace: str, names: dict[str, Any]) -> Any:
    """The schema with every name and reference in full; collects the named types."""
    if isinstance(schema, list):
        return [_resolve_names(branch, namespace, names) for branch in schema]
    if isinstance(schema, str):
        return schema if schema in _PRIMITIVES else _full(schema, namespace)
    kind = schema["type"]
    if isinstance(kind, dict | list):
        return _resolve_names(kind, namespace, names)
    if kind == "array":
        return {**schema, "items": _resolve_names(schema["items"], namespace, names)}
    if kind == "map":
        return {**schema, "values": _resolve_names(schema["values"], namespace, names)}
    if kind not in ("record", "error", "enum", "fixed"):
        return schema if kind in _PRIMITIVES else _full(kind, namespace)
    name = _full(schema["name"], schema.get("namespace", namespace))
    inner = name.rpartition(".")[0]
    resolved = {
        **schema,
        "type": "record" if kind == "error" else kind,
        "name": name,
        "aliases": [_full(alias, inner) for alias in schema.get("aliases", ())],
    }
    names[name] = resolved
    if "fields" in schema:
        resolved["fields"] = [
            {**field, "type": _resolve_names(field["type"], inner, names)}
            for field in schema["fields"]
        ]
    return resolved


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _same_name(reader: Any, writer: Any) -> bool:
    """Named types match by their last part, as the specification has it, or by a reader's alias."""
    short = writer["name"].rpartition(".")[2]
    return short == reader["name"].rpartition(".")[2] or writer["name"] in reader["aliases"]


def _type(schema: Any) -> str:
    return schema if isinstance(schema, str) else schema["type"]


def _logical(schema: Any) -> str | None:
    return None if isinstance(schema, str) else schema.get("logicalType")


def _name(schema: Any) -> str:
    kind = _type(schema)
    return f"{kind} {schema['name']}" if not isinstance(schema, str) and "name" in schema else kind


def _at(path: str) -> str:
    return f"{path}: " if path else ""
