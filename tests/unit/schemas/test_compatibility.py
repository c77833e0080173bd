from __future__ import annotations

from typing import Any

import pytest

from schemas import files
from schemas.compatibility import problems, transitive_problems


def record(*fields: dict[str, Any], name: str = "r", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "e", "symbols": list(symbols), **more}


TIME = {"type": "long", "logicalType": "timestamp-millis"}
TREE = record(field("next", ["null", "r"], default=None))

GOOD: dict[str, tuple[Any, Any]] = {
    "the same": (record(field("a", "int")), record(field("a", "int"))),
    "field with a default added": (record(field("a", "int", default=0)), record()),
    "field removed": (record(), record(field("a", "int"))),
    "field renamed by an alias": (
        record(field("b", "int", aliases=["a"])),
        record(field("a", "int")),
    ),
    "record renamed by an alias": (record(name="s", aliases=["r"]), record()),
    "other namespace": (record(namespace="x"), record(namespace="y")),
    "int to long": ("long", "int"),
    "long to double": ("double", "long"),
    "string to bytes": ("bytes", "string"),
    "bytes to string": ("string", "bytes"),
    "made nullable": (["null", "int"], "int"),
    "union branch added": (["null", "int", "string"], ["null", "int"]),
    "promotion inside a union": (["null", "long"], ["null", "int"]),
    "enum symbol added": (enum("a", "b"), enum("a")),
    "enum symbol removed, with a default": (enum("a", default="a"), enum("a", "b")),
    "array items promoted": (
        {"type": "array", "items": "long"},
        {"type": "array", "items": "int"},
    ),
    "map values promoted": ({"type": "map", "values": "double"}, {"type": "map", "values": "int"}),
    "recursive": (TREE, TREE),
    "logical type kept": (TIME, TIME),
    "fixed of the same size": (
        {"type": "fixed", "name": "f", "size": 4},
        {"type": "fixed", "name": "f", "size": 4},
    ),
    "a reference by name": (
        record(field("a", enum("x")), field("b", "e")),
        record(field("a", enum("x")), field("b", "e")),
    ),
    "one union branch as the plain type": ("int", ["int"]),
}

BAD: dict[str, tuple[Any, Any, str]] = {
    "field without a default added": (record(field("a", "int")), record(), "a: the field is new"),
    "field renamed": (
        record(field("b", "int")),
        record(field("a", "int")),
        "b: the field is new and has no default",
    ),
    "record renamed": (record(name="s"), record(), "record r cannot become record s"),
    "long to int": ("int", "long", "long cannot become int"),
    "double to long": ("long", "double", "double cannot become long"),
    "int to string": ("string", "int", "int cannot become string"),
    "no longer nullable": ("int", ["null", "int"], "null cannot become int"),
    "union branch removed": (["null", "int"], ["null", "int", "string"], "no branch"),
    "enum symbol removed": (enum("a"), enum("a", "b"), "symbols b are gone"),
    "array items": (
        record(field("a", {"type": "array", "items": "int"})),
        record(field("a", {"type": "array", "items": "string"})),
        "a[]: string cannot become int",
    ),
    "map values": (
        {"type": "map", "values": "int"},
        {"type": "map", "values": "string"},
        "{}: string cannot become int",
    ),
    "fixed of another size": (
        {"type": "fixed", "name": "f", "size": 4},
        {"type": "fixed", "name": "f", "size": 8},
        "fixed of 8 bytes",
    ),
    "a nested record": (
        record(field("a", record(field("b", "int"), name="n"))),
        record(field("a", record(name="n"))),
        "a.b: the field is new",
    ),
    "inside a recursive type": (
        record(field("next", ["null", "r"], default=None), field("a", "int")),
        TREE,
        "a: the field is new",
    ),
    "a time that becomes a number": (TIME, "long", "logical type none cannot become"),
    "a reference by name": (
        record(field("a", enum("x")), field("b", "e")),
        record(field("a", enum("x", "y")), field("b", "e")),
        "b: symbols y are gone",
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_reader_may(case: str) -> None:
    reader, writer = GOOD[case]
    assert problems(reader, writer) == []


@pytest.mark.parametrize("case", BAD)
def test_a_reader_may_not(case: str) -> None:
    reader, writer, sentence = BAD[case]
    found = problems(reader, writer)
    assert any(sentence in problem for problem in found), found


def test_every_older_version_counts() -> None:
    first = record(field("a", "string"))
    second = record()
    third = record(field("a", "int", default=0))
    assert problems(third, second) == []
    assert transitive_problems(third, [first, second]) == ["a: string cannot become int"]


@pytest.mark.parametrize("name", files.names())
def test_every_version_reads_all_before_it(name: str) -> None:
    schemas = [files.load(name, version) for version in files.versions(name)]
    assert files.versions(name) == tuple(range(1, len(schemas) + 1))
    for number, schema in enumerate(schemas):
        assert transitive_problems(schema, schemas[: number + 1]) == []


@pytest.mark.parametrize("name", files.names())
def test_every_record_and_field_says_what_it_is(name: str) -> None:
    undocumented: list[str] = []

    def walk(schema: Any, path: str) -> None:
        if isinstance(schema, list):
            for branch in schema:
                walk(branch, path)
        if not isinstance(schema, dict):
            return
        if schema["type"] == "record":
            if not schema.get("doc", "").strip():
                undocumented.append(path)
            for entry in schema["fields"]:
                if not entry.get("doc", "").strip():
                    undocumented.append(f"{path}.{entry['name']}")
                walk(entry["type"], f"{path}.{entry['name']}")
        for inner in ("items", "values", "type"):
            if isinstance(schema.get(inner), dict | list):
                walk(schema[inner], path)

    walk(files.load(name), name)
    assert undocumented == []
