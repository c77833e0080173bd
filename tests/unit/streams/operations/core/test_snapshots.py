"""What a snapshot's manifest says, and which files of an instance belong to one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath

import msgspec
import pytest

from streams.operations.core.snapshots import (
    FORMAT,
    Manifest,
    SnapshotError,
    SnapshotFile,
    decode,
    differing,
    encode,
    kept,
)

TOP = PurePosixPath()


def manifest(*paths: str, versions: tuple[str, ...] = ()) -> Manifest:
    return Manifest(
        format=FORMAT,
        podstream="1.0",
        taken_at=datetime(2026, 1, 31, 10, 0, tzinfo=UTC),
        frozen_ms=120,
        settings={"event_partitions": 4, "mongodb_database": "podstream"},
        versions=list(versions),
        files=[SnapshotFile(path, 7, "00" * 32, 1) for path in paths],
    )


def test_a_manifest_is_read_as_it_was_written() -> None:
    whole = manifest("kafka/meta.properties", "delta-v2/days/a.parquet", versions=("v2",))
    assert decode(encode(whole)) == whole
    assert whole.size == 14


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "kafka/../../x",
        "kafka/./x",
        "kafka//x",
        "kafka",
        "logs/broker.log",
        "delta-v2/a",
        "",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(SnapshotError, match="a file that no snapshot has"):
        decode(encode(manifest("kafka/meta.properties", path)))


def test_a_file_that_is_named_twice_is_refused() -> None:
    with pytest.raises(SnapshotError, match="a file that no snapshot has"):
        decode(encode(manifest("kafka/a", "kafka/a")))


@pytest.mark.parametrize("text", [b"", b"{}", b"no JSON", b'{"format": 1, "podstream": "1"}'])
def test_other_files_are_no_manifests(text: bytes) -> None:
    with pytest.raises(SnapshotError, match=r"manifest\.json is no snapshot's manifest"):
        decode(text)


def test_another_format_is_named_with_the_release_that_reads_it() -> None:
    later = msgspec.structs.replace(manifest(), format=FORMAT + 1, podstream="9.1")
    with pytest.raises(SnapshotError, match=r"restore it with release 9\.1"):
        decode(encode(later))


def test_settings_that_differ_are_said_as_they_are_set() -> None:
    taken: dict[str, int | str] = {"event_partitions": 4, "mongodb_database": "podstream"}
    assert differing(taken, dict(taken)) is None
    said = differing(taken, {"event_partitions": 2, "mongodb_database": "podstream"})
    assert said is not None
    assert "set EVENT_PARTITIONS=4 for the restore" in said


def test_of_kafka_everything_but_indexes_of_the_active_segments_and_what_goes() -> None:
    old, active = f"{0:020}", f"{812:020}"
    names = [f"{base}{ending}" for base in (old, active) for ending in (".log", ".index")]
    names += [f"{active}.timeindex", f"{active}.txnindex", f"{active}.snapshot", f"{old}.timeindex"]
    names += [f"{7:020}.log.deleted", f"{7:020}.log.cleaned", f"{7:020}.log.swap"]
    names += ["partition.metadata", "leader-epoch-checkpoint"]
    gone = {f"{active}{ending}" for ending in (".index", ".timeindex", ".txnindex")}
    gone |= {f"{7:020}.log.deleted", f"{7:020}.log.cleaned"}
    found = kept("kafka", PurePosixPath("user-events-0"), names)
    assert found == sorted(set(names) - gone)
    assert kept("kafka", TOP, [".lock", "meta.properties"]) == ["meta.properties"]


def test_of_other_parts_what_their_owners_cannot_make_anew() -> None:
    assert kept("mongo", TOP, ["documents.sqlite", "documents.sqlite-wal"]) == []
    assert kept("home", TOP, ["logs", "run", "demo_started_at", "kafka"]) == ["demo_started_at"]
    assert kept("versions", TOP, ["v2", "incoming"]) == ["v2"]
    assert kept("versions", PurePosixPath("v2"), ["incoming"]) == ["incoming"]
    assert kept("delta", TOP, ["b", "a"]) == ["a", "b"]
