"""Filters and sorts as SQL over the columns that hold keys.

Conditions on a keyed field become SQL; what is left over is decided document by document. A plan
finds at least the documents that match; where it is ``exact``, it finds these alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.cli.local.mongo_server import keys

MOST_VALUES = 30_000
"""Of `$in`: SQLite takes 32,766 parameters a statement."""

_COMPARISONS = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


@dataclass
class Plan:
    """Which rows may match: conditions joined by AND, and their parameters."""

    conditions: list[str] = field(default_factory=list)
    parameters: list[bytes] = field(default_factory=list)
    exact: bool = True

    @property
    def where(self) -> str:
        """The WHERE clause; empty if every row may match."""
        return f" WHERE {' AND '.join(self.conditions)}" if self.conditions else ""


def plan(wanted: Mapping[str, Any], columns: Mapping[str, str]) -> Plan:
    """The plan of a filter. ``columns``: the column that holds a field's keys, by field."""
    made = Plan()
    for name, condition in _conjuncts(wanted):
        column = columns.get(name)
        if column is None or not _add(made, column, condition):
            made.exact = False
    return made


def order(sort: Sequence[tuple[str, int]], columns: Mapping[str, str]) -> str | None:
    """The ORDER BY clause of a sort; None if it sorts by a field that has no keys."""
    if any(name not in columns for name, _ in sort):
        return None
    terms = [f"{columns[name]} {'DESC' if direction < 0 else 'ASC'}" for name, direction in sort]
    return f" ORDER BY {', '.join(terms)}"


def _conjuncts(wanted: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, condition in wanted.items():
        if name == "$and" and isinstance(condition, list):
            for each in condition:
                yield from _conjuncts(each)
        elif name != "$comment":
            yield name, condition


def _add(made: Plan, column: str, condition: Any) -> bool:
    """Add what SQL can say of a condition; whether that is all of it."""
    operators = condition if _has_operators(condition) else {"$eq": condition}
    whole = True
    for operator, value in operators.items():
        try:
            whole &= _add_operator(made, column, operator, value)
        except keys.NoKeyError:
            whole = False
    return whole


def _add_operator(made: Plan, column: str, operator: str, value: Any) -> bool:
    key = keys.id_key if column == "id" else keys.key
    if operator == "$eq":
        made.conditions.append(f"{column} = ?")
        made.parameters.append(key(value))
        return True
    if operator == "$in" and isinstance(value, list):
        wanted = [key(each) for each in value]
        if len(wanted) > MOST_VALUES:
            # Those between the least and the greatest are looked at one by one.
            made.conditions.append(f"{column} BETWEEN ? AND ?")
            made.parameters += [min(wanted), max(wanted)]
            return False
        made.conditions.append(f"{column} IN ({', '.join('?' * len(wanted))})")
        made.parameters += wanted
        return True
    if (comparison := _COMPARISONS.get(operator)) is not None:
        bound = keys.key(value)
        if bound == keys.NULL:  # compares with null and missing only, by rules of its own
            return False
        least, beyond = keys.type_range(bound)
        made.conditions.append(f"{column} {comparison} ?")
        made.parameters.append(bound)
        # Values of other types are neither greater nor less.
        made.conditions.append(f"{column} {'<' if '>' in comparison else '>='} ?")
        made.parameters.append(beyond if ">" in comparison else least)
        return True
    return False


def _has_operators(condition: Any) -> bool:
    return isinstance(condition, Mapping) and any(name.startswith("$") for name in condition)
