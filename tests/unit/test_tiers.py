"""How the tiers are run: what is drawn of the long tests, and what is said of each tier."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import drawing
from tests.tiers import Run, Tier, unlisted


@pytest.mark.parametrize(
    ("printed", "summary"),
    [
        (
            "=== 2 passed, 1 warning in 3.41s ===\n%3|179|FAIL|rdkafka#consumer-2| refused in 5s",
            "2 passed, 1 warning in 3.41s",
        ),
        ("1 failed, 55 passed in 655.67s (0:10:55)\n", "1 failed, 55 passed in 655.67s (0:10:55)"),
        ("no tests ran in 0.02s", "no tests ran in 0.02s"),
        ("5 records in the log\nKilled", "Killed"),
        ("", "nothing"),
    ],
)
def test_a_tier_is_summed_up_by_pytests_own_line(
    tmp_path: Path, printed: str, summary: str
) -> None:
    output = tmp_path / "output"
    output.write_text(printed)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert Run(Tier("any", ()), process, output, 0.0).summary == summary


def test_over_the_commits_all_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(drawing.EVERYTHING, raising=False)
    seen: set[int] = set()
    for number in range(50):
        monkeypatch.setattr(drawing, "commit", lambda number=number: f"{number:040x}")
        places = drawing.drawn("points", range(10), 3)
        assert places == drawing.drawn("points", range(10), 3) == sorted(set(places))
        assert len(places) == 3
        seen.update(places)
    assert seen == set(range(10))
    monkeypatch.setenv(drawing.EVERYTHING, "1")
    assert drawing.drawn("points", range(10), 3) == [*range(10)]


def test_every_file_of_tests_has_one_tier() -> None:
    assert unlisted() == []
