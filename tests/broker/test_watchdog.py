"""A worker that lives but no longer works ends by itself, with one clear line."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.kafka.clients import CRASH_EXIT_CODE
from tests.broker.workers import DEAD, SOURCE, alive, instance, records, start, write_garbage
from tests.waiting import wait_until
from topology.settings import Settings

pytestmark = pytest.mark.broker

SENTENCES = {"fetching": "has read nothing for", "loop": "the event loop has stood still"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with instance(tmp_path_factory.mktemp("watchdog")) as settings:
        yield settings


@pytest.mark.parametrize("how", SENTENCES)
def test_a_worker_that_stands_still_ends(settings: Settings, how: str, tmp_path: Path) -> None:
    marker, log = tmp_path / "stand-still", tmp_path / "worker.log"
    with log.open("wb") as output:
        process = start(settings, "stalling_worker.py", how, str(marker), output=output)
        try:
            write_garbage(settings)
            _wait_for_dead_letters(settings, process)
            # idle, with everything read: nothing to complain of
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(5)
            marker.touch()
            standing = marker.with_suffix(".done")
            wait_until(standing.exists, 30, "the worker stands still")
            write_garbage(settings)
            assert process.wait(60) == CRASH_EXIT_CODE
        finally:
            process.kill()
            process.wait()
    lines = [line for line in log.read_text().splitlines() if SENTENCES[how] in line]
    assert len(lines) == 1, log.read_text()


def _wait_for_dead_letters(settings: Settings, process: subprocess.Popen[Any]) -> None:
    """Until there are as many dead letters as there is garbage."""
    wait_until(
        lambda: records(settings, DEAD) >= records(settings, SOURCE),
        60,
        "a dead letter for each piece of garbage",
        check=lambda: alive(process),
    )
