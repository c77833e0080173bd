"""The guide to a new stage in `CONTRIBUTING.md`, taken by its word: its blocks make one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

NEEDED = ("schemas", "topology", "streams")
"""What a stage in memory imports of ours."""

NAMES = Path("tests/unit/topology")
"""Where the names that a cluster holds are pinned."""

BLOCK = re.compile(r"^```(json|python|diff) (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

RUN = """
import json, sys
from datetime import UTC, datetime
from pathlib import Path

from streams.runtime.in_memory import MemoryRuntime
from topology.graph import build_graph, get_graph
from topology.settings import Settings
from topology.validate import validate

NOW = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
runtime = MemoryRuntime(build_graph(3), Settings(podstream_home=Path("home")))
runtime.clock.set(NOW.timestamp())
runtime.start("batch_events")
runtime.start("count_likes")
for number, (user, episode, kind) in enumerate(json.loads(sys.argv[1])):
    event = {"event_id": str(number), "user_id": user, "episode_id": episode, "kind": kind}
    runtime.log.append("user-events", {**event, "occurred_at": NOW}, key=user)
    if number % 5 == 0:
        runtime.run()
runtime.run()
runtime.log.append("user-event-batches", b"no rows", partition=0)
runtime.crash("count_likes", redeliver=3)
runtime.run()
print(json.dumps({
    "likes": runtime.log.decoded("episode-likes"),
    "dead": len(runtime.log.records("user-event-batches.dlq")),
    "problems": validate(runtime.log.graph, module_exists=lambda name: True),
}))
"""


def changed(before: str, diff: str) -> str:
    """A text after a diff whose pieces, between lines of ``@@``, each stand in it once."""
    for piece in diff.split("@@\n"):
        lines = piece.splitlines()
        old = "\n".join(line[1:] for line in lines if line[:1] != "+")
        new = "\n".join(line[1:] for line in lines if line[:1] != "-")
        assert f"\n{before}".count(f"\n{old}\n") == 1, f"not there, or more than once:\n{old}"
        before = f"\n{before}".replace(f"\n{old}\n", f"\n{new}\n")[1:]
    return before


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is needed, with the blocks of the guide applied in their order."""
    tree = tmp_path_factory.mktemp("stage")
    for package in NEEDED:
        shutil.copytree(
            ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tree)
    (tree / NAMES).mkdir(parents=True)
    for name in ("names.json", "test_names.py"):
        shutil.copy(ROOT / NAMES / name, tree / NAMES)
    blocks = BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text())
    assert blocks
    for language, path, text in blocks:
        file = tree / path
        if language == "diff":
            text = changed(file.read_text(), text)
        else:
            assert not file.exists()
            file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tree


def run(tree: Path, *arguments: str) -> str:
    """What Python prints in the copy."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PODSTREAM_HOME": str(tree / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_new_stage_counts_what_was_liked_once(tree: Path) -> None:
    events = [
        (f"listener-{number % 7}", f"my:{number % 3}", "like" if number % 4 else "play")
        for number in range(40)
    ]
    found = json.loads(run(tree, "-c", RUN, json.dumps(events)))
    newest = {(row["episode_id"], row["source_partition"]): row for row in found["likes"]}
    counts: dict[str, int] = {}
    for (episode, _), row in newest.items():
        counts[episode] = counts.get(episode, 0) + row["likes"]
    wanted: dict[str, int] = {}
    for _, episode, kind in events:
        wanted[episode] = wanted.get(episode, 0) + (kind == "like")
    assert counts == wanted
    assert found["dead"] == 1
    assert found["problems"] == []


def test_the_tests_of_the_guide_pass(tree: Path) -> None:
    pytest_in_tree = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "1 passed" in run(tree, *pytest_in_tree, "tests/flow")
    run(tree, *pytest_in_tree, "tests/unit")


def test_the_code_of_the_guide_is_linted_and_formatted(tree: Path) -> None:
    files = [path for _, path, _ in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text())]
    python = [path for path in files if path.endswith(".py")]
    run(tree, "-m", "ruff", "check", *python)
    run(tree, "-m", "ruff", "format", "--check", *python)


def test_a_diff_is_refused_whose_place_is_gone() -> None:
    with pytest.raises(AssertionError, match="not there"):
        changed("a\nb\n", " c\n+d\n")
