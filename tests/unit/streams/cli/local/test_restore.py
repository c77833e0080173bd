"""A home that does not run, into a snapshot and out of it; what is refused says why."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from streams.cli.local.claims import RESTORING, ClaimError
from streams.cli.local.instance import up
from streams.cli.local.snapshots import restore
from streams.cli.local.supervise import Supervisor
from streams.cli.local.versions import keep, take_code
from streams.operations.core.snapshots import SnapshotError
from tests.paths import ROOT
from topology.settings import Settings

LARGE = os.urandom(50_000)
FILES = {
    "kafka/data/meta.properties": b"cluster.id=abc",
    "kafka/data/user-events-0/00000000000000000000.log": LARGE,
    "delta/days/_delta_log/00000000000000000000.json": b"{}",
    "checkpoints/write_delta/facts/offsets/0": b"v1",
    "demo_started_at": b"1",
}
OTHERS = {"logs/broker.log": b"x", "kafka/server.properties": b"x", "spark/local/x": b"x"}


def podstream(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    spelled = {(field.alias or name).upper() for name, field in Settings.model_fields.items()}
    kept = {key: value for key, value in os.environ.items() if key not in spelled}
    return subprocess.run(
        [sys.executable, "-m", "streams.cli.main", *arguments],
        cwd=ROOT,
        env={**kept, "PODSTREAM_HOME": str(home), "DISK_RESERVE": "0", **more},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home as a stopped instance has one."""
    home = tmp_path / "home"
    for path, content in {**FILES, **OTHERS}.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_bytes(content)
        os.utime(home / path, ns=(10**18, 10**18))
    (home / "mongo").mkdir()
    with closing(sqlite3.connect(home / "mongo" / "documents.sqlite")) as database:
        database.execute("CREATE TABLE documents (body)")
        database.execute("INSERT INTO documents VALUES ('one')")
        database.commit()
    return home


@pytest.fixture
def snapshot(home: Path, tmp_path: Path) -> Path:
    """A snapshot of it."""
    taken = podstream(home, "snapshot", str(tmp_path / "taken"))
    assert taken.returncode == 0, taken.stderr
    return tmp_path / "taken"


def settings_of(home: Path, **more: Any) -> Settings:
    return Settings(_env_file=None, podstream_home=home, disk_reserve=0, **more)


def quiet() -> Console:
    return Console(quiet=True)


def files_of(home: Path) -> dict[str, bytes]:
    paths = (path for path in home.rglob("*") if path.is_file())
    found = {str(path.relative_to(home)): path.read_bytes() for path in paths}
    return {name: content for name, content in found.items() if name not in ("run/up.lock",)}


def test_what_was_taken_is_restored_with_its_times_and_for_nobody_else(
    snapshot: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    restored = podstream(new, "restore", str(snapshot))
    assert restored.returncode == 0, restored.stderr
    assert "goes on from there" in " ".join(restored.stdout.split())
    found = files_of(new)
    database = found.pop("mongo/documents.sqlite")
    assert found == FILES
    assert database == (snapshot / "files" / "mongo" / "documents.sqlite").read_bytes()
    with closing(sqlite3.connect(new / "mongo" / "documents.sqlite")) as copy:
        assert copy.execute("SELECT * FROM documents").fetchall() == [("one",)]
    for path in (path for folder in (new, snapshot) for path in folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    for name in FILES:
        assert (new / name).stat().st_mtime_ns == 10**18


def test_a_place_that_is_taken_is_left_alone(home: Path, snapshot: Path, tmp_path: Path) -> None:
    again = podstream(home, "snapshot", str(snapshot))
    assert again.returncode == 1
    assert "exists: choose another place" in again.stderr
    before = files_of(home)
    over = podstream(home, "restore", str(snapshot))
    assert over.returncode == 1
    assert "is not empty: restore into another place" in over.stderr
    assert files_of(home) == before
    among = podstream(home, "snapshot", str(home / "delta" / "copy"))
    assert among.returncode == 1
    assert "is among what is to be copied" in among.stderr
    nothing = podstream(tmp_path / "none", "snapshot", str(tmp_path / "other"))
    assert nothing.returncode == 1
    assert "There is no instance in" in nothing.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("fault", ["changed", "shorter", "missing", "link"])
def test_a_damaged_snapshot_is_refused_before_anything_is_written(
    snapshot: Path, tmp_path: Path, fault: str
) -> None:
    file = snapshot / "files" / "kafka" / "user-events-0" / f"{0:020}.log"
    if fault == "changed":
        file.write_bytes(LARGE[:-1] + bytes([LARGE[-1] ^ 1]))
    elif fault == "shorter":
        file.write_bytes(LARGE[:-1])
    else:
        file.unlink()
        if fault == "link":
            file.symlink_to("/etc/hostname")
    with pytest.raises(SnapshotError, match=r"is not whole|is damaged"):
        restore(settings_of(tmp_path / "new"), snapshot, quiet())
    assert files_of(tmp_path / "new") == {}


def test_a_folder_without_a_manifest_is_no_snapshot(snapshot: Path, tmp_path: Path) -> None:
    (snapshot / "manifest.json").unlink()
    with pytest.raises(SnapshotError, match=r"it has no manifest\.json"):
        restore(settings_of(tmp_path / "new"), snapshot, quiet())


def test_settings_that_the_content_means_nothing_with_are_refused(
    snapshot: Path, tmp_path: Path
) -> None:
    with pytest.raises(SnapshotError, match="set EVENT_PARTITIONS=4 for the restore"):
        restore(settings_of(tmp_path / "new", event_partitions=2), snapshot, quiet())
    assert not (tmp_path / "new").exists()


def test_a_restore_that_was_cut_off_is_not_started_and_given_again(
    snapshot: Path, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path / "new")
    (settings.podstream_home / "kafka" / "data").mkdir(parents=True)
    (settings.podstream_home / "kafka" / "data" / "half").touch()
    (settings.podstream_home / RESTORING).touch()
    with pytest.raises(ClaimError, match=r"A restore into .* was cut off"):
        up(settings, False, True, quiet())
    restore(settings, snapshot, quiet())
    found = files_of(settings.podstream_home)
    assert found.keys() == FILES.keys() | {"mongo/documents.sqlite"}


def test_processes_of_a_version_are_described_anew_by_its_code(home: Path, tmp_path: Path) -> None:
    keep(home, take_code(home, None), "v2")
    Supervisor(home).add("v2", ())
    taken = podstream(home, "snapshot", str(tmp_path / "taken"))
    assert taken.returncode == 0, taken.stderr
    new = tmp_path / "new"
    restored = podstream(new, "restore", str(tmp_path / "taken"))
    assert restored.returncode == 0, restored.stderr
    told = (new / "run" / "added" / "v2.conf").read_text()
    assert "[program:v2-track]" in told
    assert str(new / "versions" / "v2" / "code") in told
    assert str(home) not in told


def test_other_peoples_servers_have_snapshots_of_their_own(home: Path, tmp_path: Path) -> None:
    refused = podstream(
        home, "snapshot", str(tmp_path / "other"), KAFKA_BOOTSTRAP_SERVERS="broker.example:9092"
    )
    assert refused.returncode == 1
    assert "those have ways of their own" in refused.stderr
