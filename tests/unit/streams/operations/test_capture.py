"""Files and a database as they were at one moment, whatever happens to them afterwards."""

from __future__ import annotations

import hashlib
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streams.operations.capture import (
    SMALL,
    Capture,
    allow_open_files,
    check_room,
    digest,
    places,
)
from streams.operations.core.snapshots import SnapshotError
from streams.operations.pinned_database import PinnedDatabase
from topology.settings import Settings

LARGE = b"x" * (3 * SMALL)


@pytest.fixture
def delta(tmp_path: Path) -> Path:
    folder = tmp_path / "delta"
    (folder / "days" / "_delta_log").mkdir(parents=True)
    return folder


@pytest.fixture
def capture(delta: Path) -> Iterator[Capture]:
    taken = Capture({"delta": delta, "checkpoints": delta.parent / "none"}, left_out=("mine",))
    yield taken
    taken.close()


def copied(capture: Capture, into: Path) -> dict[str, bytes]:
    """What a copy holds; what it says of each file is so."""
    said = {file.path: file for file in capture.copy(into, lambda _: None)}
    found = {str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()}
    assert found.keys() == said.keys()
    for path, content in found.items():
        assert said[path].size == len(content)
        assert said[path].sha256 == hashlib.sha256(content).hexdigest() == digest(into / path)
    return found


def test_what_is_appended_replaced_written_over_or_removed_later_is_not_in_it(
    capture: Capture, delta: Path, tmp_path: Path
) -> None:
    log, parquet, last, one = (
        delta / "days" / "log",
        delta / "days" / "a.parquet",
        delta / "days" / "_delta_log" / "_last_checkpoint",
        delta / "one",
    )
    for path, content in ((log, LARGE), (parquet, LARGE + b"a"), (last, b"7"), (one, LARGE)):
        path.write_bytes(content)
    (delta / "mine").touch()
    assert capture.look() == (4, 3 * len(LARGE) + 2)
    capture.take()
    with log.open("ab") as file:
        file.write(b"later")
    parquet.unlink()
    last.write_bytes(b"8")  # in place, as Spark does
    (delta / "two").write_bytes(b"another")
    (delta / "two").replace(one)
    assert copied(capture, tmp_path / "copy") == {
        "delta/days/log": LARGE,
        "delta/days/a.parquet": LARGE + b"a",
        "delta/days/_delta_log/_last_checkpoint": b"7",
        "delta/one": LARGE,
    }


def test_taken_again_it_is_of_the_later_moment(
    capture: Capture, delta: Path, tmp_path: Path
) -> None:
    (delta / "log").write_bytes(LARGE)
    capture.take()
    (delta / "log").write_bytes(LARGE + LARGE)
    capture.take()
    assert copied(capture, tmp_path / "copy") == {"delta/log": LARGE + LARGE}


def test_a_file_that_was_cut_ends_the_copy(capture: Capture, delta: Path, tmp_path: Path) -> None:
    (delta / "log").write_bytes(LARGE)
    capture.take()
    (delta / "log").write_bytes(b"")
    with pytest.raises(SnapshotError, match="delta/log was cut while it was copied"):
        capture.copy(tmp_path / "copy", lambda _: None)


def test_more_open_files_are_allowed_where_the_system_allows_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = min(before[1], 512)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        allow_open_files(soft - 1)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft
        allow_open_files(soft + 1)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft + 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 1000))
    with pytest.raises(SnapshotError, match="this user may open 1,000"):
        allow_open_files(1001)


def test_room_is_asked_for_beforehand(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, podstream_home=tmp_path, disk_reserve=0)
    check_room(tmp_path / "not" / "there", 1, settings)
    with pytest.raises(SnapshotError, match="free some, or choose another place"):
        check_room(tmp_path / "not" / "there", 2**60, settings)
    kept = settings.model_copy(update={"disk_reserve": 2**60})
    with pytest.raises(SnapshotError, match="of them DISK_RESERVE"):
        check_room(tmp_path, 1, kept)


def test_parts_lie_where_the_settings_say_versions_beside_them(tmp_path: Path) -> None:
    settings = Settings(
        _env_file=None, podstream_home=tmp_path / "home", delta_root=f"file://{tmp_path}/lake"
    )
    found = places(settings, ["v2"])
    assert found["delta"] == tmp_path / "lake"
    assert found["delta-v2"] == tmp_path / "lake-v2"
    assert found["checkpoints-v2"] == tmp_path / "home" / "checkpoints-v2"
    elsewhere = Settings(_env_file=None, podstream_home=tmp_path, delta_root="s3a://bucket/lake")
    with pytest.raises(SnapshotError, match="delta lies in s3a://bucket/lake"):
        places(elsewhere, [])


def test_a_pinned_database_is_what_was_committed_while_others_write_on(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE documents (body)")
        writer.executemany("INSERT INTO documents VALUES (?)", [("x" * 1000,)] * 500)
        pinned = PinnedDatabase(path)
        pinned.pin()
        writer.execute("INSERT INTO documents VALUES ('second')")
        pinned.pin()
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO documents VALUES ('open')")
        pinned.pin()  # what is not committed is not seen, and not waited for
        writer.execute("COMMIT")
        writer.execute("DELETE FROM documents WHERE body LIKE 'x%'")
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        told: list[int] = []
        pinned.copy(tmp_path / "copy.sqlite", lambda left, total: told.append(total - left))
        pinned.close()
        assert writer.execute("SELECT count(*) FROM documents").fetchone() == (2,)
    assert told
    assert sorted(p.name for p in tmp_path.glob("copy*")) == ["copy.sqlite"]
    with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as copy:
        counted = copy.execute("SELECT count(*), count(body = 'second' OR NULL) FROM documents")
        assert counted.fetchone() == (501, 1)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
