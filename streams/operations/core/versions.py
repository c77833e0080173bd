"""Versions of the tables as records of the log, and what may be done with them: pure rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from topology.graph import app_id
from topology.model import Graph
from topology.versions import FIRST, number, shown

LIVE = "live"
"""Key of the pointer: the tables that it speaks of."""


class VersionError(RuntimeError):
    """What was asked cannot be done, and nothing was changed; the text says why."""


@dataclass(frozen=True)
class VersionStage:
    """A stage of a version: its consumer group, and the topics that it consumes."""

    name: str
    group: str
    consumes: tuple[str, ...]


@dataclass(frozen=True)
class Version:
    """A version of the tables: the code it is of, as people say it and by its SHA-256, and what
    runs for it. The first has no digest: its code is whatever the instance runs."""

    name: str
    code: str
    digest: str
    created_at: datetime | None
    database: str
    stages: tuple[VersionStage, ...]
    retired: bool = False

    def to_record(self) -> dict[str, Any]:
        """The record of `table-versions`."""
        record = asdict(self)
        record["version"] = record.pop("name")
        return record

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Version:
        """The version that a record of `table-versions` tells of."""
        fields = dict(record)
        stages = tuple(
            VersionStage(one["name"], one["group"], tuple(one["consumes"]))
            for one in fields.pop("stages")
        )
        return cls(name=fields.pop("version"), stages=stages, **fields)

    @classmethod
    def of_graph(
        cls, graph: Graph, database: str, code: str, digest: str, created_at: datetime | None
    ) -> Version:
        """The version whose graph this is."""
        return cls(shown(graph.version), code, digest, created_at, database, stages_of(graph))


def stages_of(graph: Graph) -> tuple[VersionStage, ...]:
    """What runs for the version whose graph this is, in the order of the river."""
    return tuple(
        VersionStage(stage.name, app_id(stage), stage.consumes)
        for stage in graph.stages.values()
        if stage.versioned
    )


@dataclass(frozen=True)
class Pointer:
    """Which version is served, since when, and which was before; empty: none."""

    version: str
    before: str
    database: str
    promoted_at: datetime | None

    def to_record(self) -> dict[str, Any]:
        """The record of `served-version`."""
        return {"tables": LIVE, **asdict(self)}


@dataclass(frozen=True)
class Versions:
    """All versions by name, the first among them, and the pointer."""

    all: Mapping[str, Version]
    pointer: Pointer

    def kept(self) -> list[Version]:
        """Those that are not retired, the oldest first."""
        return [one for _, one in sorted(self.all.items(), key=_by_number) if not one.retired]

    def get(self, name: str) -> Version:
        """The version of this name. VersionError if there is none, or it is retired."""
        found = self.all.get(name)
        if found is None or found.retired:
            listed = ", ".join(one.name for one in self.kept())
            raise VersionError(f"There is no version {name}: there are {listed}.")
        return found

    def of_code(self, digest: str) -> Version | None:
        """The newest version of this code that is not retired."""
        return next((one for one in reversed(self.kept()) if one.digest == digest), None)

    def next_name(self) -> str:
        """The name of the version that is made next: no name is used twice."""
        return f"v{max(map(number, self.all)) + 1}"

    def promoted(self, name: str, at: datetime) -> Pointer:
        """The pointer once this version is served. VersionError if it is already."""
        version = self.get(name)
        if name == self.pointer.version:
            raise VersionError(f"{name} is served already.")
        return Pointer(name, self.pointer.version, version.database, at)

    def rolled_back(self, at: datetime) -> Pointer:
        """The pointer once the version before is served again. VersionError if there is none."""
        if not self.pointer.before:
            raise VersionError(f"Nothing was promoted before {self.pointer.version}.")
        return self.promoted(self.pointer.before, at)

    def retired(self, name: str) -> Version:
        """The version as it is once its tables are gone. VersionError if they have to stay."""
        version = self.all.get(name)
        if version is None:
            return self.get(name)
        if name == self.pointer.version:
            raise VersionError(f"{name} is served: promote another version first, or roll back.")
        if name == FIRST:
            raise VersionError(
                f"{FIRST} cannot be retired: it hands events over for all versions, and Delta, "
                "the models and the lists are made of its tables."
            )
        return replace(version, retired=True)


def _by_number(item: tuple[str, Version]) -> int:
    return number(item[0])


def versions_of(
    first: Version, records: Iterable[Mapping[str, Any]], pointer: Mapping[str, Any] | None
) -> Versions:
    """What the newest records of each key say; without a pointer the first version is served."""
    found = {first.name: first}
    for record in records:
        version = Version.of_record(record)
        found[version.name] = version
    if pointer is None:
        return Versions(found, Pointer(first.name, "", first.database, None))
    fields = {name: pointer[name] for name in ("version", "before", "database", "promoted_at")}
    return Versions(found, Pointer(**fields))


@dataclass(frozen=True)
class Pace:
    """How fast a version counts: events so far, events there are, and seconds since it began."""

    done: int
    total: int
    begun_with: int
    seconds: float

    @property
    def rate(self) -> float:
        """Events a second since it was first looked at; 0 before there is anything to tell."""
        return max(self.done - self.begun_with, 0) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None while nothing moves."""
        left = max(self.total - self.done, 0)
        if not left:
            return 0.0
        return left / self.rate if self.rate else None

    def sentence(self) -> str:
        """The same in words."""
        told = f"{self.done:,} of {self.total:,} events, {self.rate:,.0f}/s"
        return told if (left := self.seconds_left) is None else f"{told}, {left:.0f} s left"
