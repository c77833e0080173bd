"""`$group` by one field into sums of others, in one pass: what dashboards ask at every tick."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streams.cli.local.mongo_server import keys
from streams.cli.local.mongo_server.documents import Document


def is_sums(stage: Mapping[str, Any]) -> bool:
    """Whether a stage is a group by a top-level field, or of everything, into sums of such."""
    said = stage.get("$group")
    if not isinstance(said, Mapping) or not _by(said.get("_id")):
        return False
    sums = [expression for name, expression in said.items() if name != "_id"]
    return all(
        isinstance(each, Mapping)
        and [*each] == ["$sum"]
        and (type(each["$sum"]) is int or _field(each["$sum"]))
        for each in sums
    )


def summed(documents: Iterable[Document], stage: Mapping[str, Any]) -> Iterator[Document]:
    """The groups of such a stage, in the order in which they come up.

    As MongoDB does, what is no number counts nothing.
    """
    said = stage["$group"]
    by = said["_id"][1:] if said["_id"] is not None else None
    names = [name for name in said if name != "_id"]
    fields = [said[name]["$sum"] for name in names]
    constants = [(n, one) for n, one in enumerate(fields) if type(one) is int]
    paths = [(n, one[1:]) for n, one in enumerate(fields) if type(one) is not int]
    groups: dict[Any, tuple[Any, list[Any]]] = {}
    for document in documents:
        value = document.get(by) if by is not None else None
        try:
            known: Any = keys.key(value)  # one for numbers of any type
        except keys.NoKeyError:
            known = repr(value)
        if known not in groups:
            groups[known] = (value, [0] * len(fields))
        sums = groups[known][1]
        for n, one in constants:
            sums[n] += one
        for n, path in paths:
            found = document.get(path)
            if isinstance(found, int | float) and not isinstance(found, bool):
                sums[n] += found
    for value, sums in groups.values():
        yield {"_id": value, **dict(zip(names, sums, strict=True))}


def _by(expression: Any) -> bool:
    return expression is None or _field(expression)


def _field(expression: Any) -> bool:
    return (
        isinstance(expression, str)
        and expression.startswith("$")
        and not expression.startswith("$$")
        and "." not in expression
    )
