"""What may be done with which version, and how records tell of them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from streams.operations.core.versions import (
    Pace,
    Version,
    VersionError,
    Versions,
    stages_of,
    versions_of,
)
from topology.graph import build_graph

AT = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
FIRST = Version.of_graph(build_graph(2), "podstream", "this instance", "", None)


def made(name: str, digest: str, *, retired: bool = False) -> Version:
    graph = build_graph(2, name)
    return Version(name, "x", digest, AT, f"podstream-{name}", stages_of(graph), retired)


def versions(*others: Version, served: str = "v1", before: str = "") -> Versions:
    pointer = {
        "tables": "live",
        "version": served,
        "before": before,
        "database": "d",
        "promoted_at": AT,
    }
    records = [one.to_record() for one in others]
    return versions_of(FIRST, records, pointer if served != "v1" or before else None)


def test_a_version_is_what_its_record_says() -> None:
    version = made("v2", "abc")
    assert Version.of_record(version.to_record()) == version
    assert version.stages[0].name == "batch_events"
    assert version.stages[1].group == "podstream-v2-track_engagement-v2"
    assert version.stages[1].consumes == ("podstream-v2-user-event-batches",)


def test_without_a_pointer_the_first_is_served() -> None:
    found = versions(made("v2", "abc"))
    assert found.pointer.version == "v1"
    assert found.pointer.database == "podstream"
    assert [one.name for one in found.kept()] == ["v1", "v2"]


def test_names_are_used_once_and_code_is_found_again() -> None:
    found = versions(made("v2", "a"), made("v10", "b", retired=True), made("v3", "a"))
    assert found.next_name() == "v11"
    assert found.of_code("a") == made("v3", "a")
    assert found.of_code("b") is None
    assert [one.name for one in found.kept()] == ["v1", "v2", "v3"]


def test_promoting_moves_the_pointer_and_rolling_back_moves_it_again() -> None:
    found = versions(made("v2", "a"))
    pointer = found.promoted("v2", AT)
    assert (pointer.version, pointer.before, pointer.database) == ("v2", "v1", "podstream-v2")
    back = versions(made("v2", "a"), served="v2", before="v1").rolled_back(AT)
    assert (back.version, back.before, back.database) == ("v1", "v2", "podstream")
    assert back.to_record()["tables"] == "live"


def test_what_cannot_be_is_refused_with_a_sentence() -> None:
    found = versions(made("v2", "a"), made("v3", "b", retired=True), served="v2", before="v1")
    with pytest.raises(VersionError, match="v2 is served already"):
        found.promoted("v2", AT)
    with pytest.raises(VersionError, match=r"no version v3: there are v1, v2\."):
        found.promoted("v3", AT)
    with pytest.raises(VersionError, match="v2 is served"):
        found.retired("v2")
    with pytest.raises(VersionError, match="v1 cannot be retired"):
        found.retired("v1")
    with pytest.raises(VersionError, match="no version v9"):
        found.retired("v9")
    with pytest.raises(VersionError, match="Nothing was promoted before v1"):
        versions(made("v2", "a")).rolled_back(AT)


def test_retiring_again_does_the_rest() -> None:
    assert versions(made("v2", "a")).retired("v2").retired
    assert versions(made("v2", "a", retired=True)).retired("v2").retired


def test_the_pace_tells_what_is_left() -> None:
    assert Pace(600, 1000, 200, 2.0).sentence() == "600 of 1,000 events, 200/s, 2 s left"
    assert Pace(200, 1000, 200, 2.0).sentence() == "200 of 1,000 events, 0/s"
    assert Pace(5, 5, 0, 0.0).seconds_left == 0.0
