"""The code of a version: copied, known again by what is in it, asked what it needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from streams.cli.local.versions import (
    PACKAGES,
    ask,
    describe,
    drop_code,
    folder_of,
    keep,
    take_code,
)
from streams.operations.core.versions import VersionError
from tests.paths import ROOT
from topology.graph import graph_of
from topology.settings import Settings


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    for name in PACKAGES[:2]:
        shutil.copytree(ROOT / name, folder / name)
    (folder / "streams").mkdir()
    (folder / "streams" / "rule.py").write_text("A = 1\n")
    return folder


def test_the_same_code_is_known_again_and_changed_code_is_not(copy: Path, tmp_path: Path) -> None:
    first = take_code(tmp_path, str(copy))
    assert first.source == str(copy)
    kept = keep(tmp_path, first, "v2")
    assert kept == folder_of(tmp_path, "v2")
    (copy / "streams" / "__pycache__").mkdir()
    (copy / "streams" / "__pycache__" / "rule.pyc").write_bytes(b"1")
    assert take_code(tmp_path, str(copy)).digest == first.digest
    (copy / "streams" / "rule.py").write_text("A = 2\n")
    assert take_code(tmp_path, str(copy)).digest != first.digest
    assert (kept / "streams" / "rule.py").read_text() == "A = 1\n"
    drop_code(tmp_path, "v2")
    assert not kept.exists()


def test_without_a_name_it_is_the_code_that_runs(tmp_path: Path) -> None:
    code = take_code(tmp_path, None)
    assert code.source == str(ROOT)
    assert (code.folder / "topology" / "versions.py").is_file()


def test_what_is_no_code_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match="is no copy of Podstream"):
        take_code(tmp_path, str(tmp_path))
    with pytest.raises(VersionError, match="neither a folder nor a revision"):
        take_code(tmp_path, "no-such-revision")


def test_a_version_says_what_it_needs(tmp_path: Path) -> None:
    settings = Settings(podstream_home=tmp_path, podstream_version="v2")
    told = json.loads(json.dumps(describe(settings, graph_of(settings))))
    assert (told["version"], told["database"]) == ("v2", "podstream-v2")
    programs = {one["name"]: one for one in told["programs"]}
    assert programs.keys() == {"v2-batch_events", "v2-track", "v2-serve"}
    for program in programs.values():
        assert program["environment"]["PODSTREAM_VERSION"] == "v2"
        assert program["environment"]["PYTHONPATH"] == str(ROOT)
    assert "--without-web" in programs["v2-track"]["argv"]


def test_code_that_knows_no_versions_is_refused(copy: Path, tmp_path: Path) -> None:
    command = copy / "streams" / "cli"
    command.mkdir()
    for package in (copy / "streams", command):
        (package / "__init__.py").write_text("")
    (command / "main.py").write_text("raise SystemExit(\"│ No such command 'versions'. │\")\n")
    with pytest.raises(VersionError, match=r"beside what is live: .*No such command 'versions'\.$"):
        ask(copy, "v2")
    (command / "main.py").write_text('print(\'{"version": ""}\')\n')
    with pytest.raises(VersionError, match="takes itself for v1, not v2"):
        ask(copy, "v2")
