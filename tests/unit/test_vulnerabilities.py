"""What `make check` says of known vulnerabilities of the pins."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from tests.paths import ROOT

TOLD = [
    {
        "name": "mild",
        "version": "1.0",
        "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"]}],
    },
    {"name": "sound", "version": "2.0", "vulns": []},
    {"name": "worse", "version": "3.0", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]},
]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / ".ci" / "vulnerabilities.py"))


def test_each_vulnerability_is_a_line_that_says_what_mends_it(script: dict[str, Any]) -> None:
    assert script["findings"](TOLD, []) == [
        "mild 1.0: PYSEC-1, mended in 1.1",
        "worse 3.0: PYSEC-2, mended in no version yet",
    ]


@pytest.mark.parametrize("accepted", ["PYSEC-1", "CVE-1"])
def test_what_is_accepted_under_any_of_its_names_is_not_told(
    script: dict[str, Any], accepted: str
) -> None:
    assert script["findings"](TOLD, [accepted]) == ["worse 3.0: PYSEC-2, mended in no version yet"]


def test_what_installs_the_packages_is_asked_about_too(script: dict[str, Any]) -> None:
    assert [lock.name for lock in script["LOCKS"]] == ["requirements.lock", "installer.lock"]
    assert all(lock.is_file() for lock in script["LOCKS"])
