"""Records fetched while a worker may not take them are handled later: the first ones, too."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.broker.workers import DEAD, alive, instance, records, start, write_garbage
from tests.waiting import wait_until

pytestmark = pytest.mark.broker


def test_first_records_that_come_while_the_flow_is_stopped_are_handled(tmp_path: Path) -> None:
    """Nothing has been committed yet, so there is no offset to go back to."""
    log = tmp_path / "worker.log"
    with instance(tmp_path) as settings, log.open("wb") as output:
        worker = start(settings, "pausing_worker.py", str(tmp_path), output=output)
        try:
            _wait(worker, (tmp_path / "stopped").exists)
            write_garbage(settings, 3)
            # the fetch that had begun gets them, and has to throw them away
            _wait(worker, (tmp_path / "fetched").exists)
            (tmp_path / "go-on").touch()
            write_garbage(settings, 2)
            _wait(worker, lambda: records(settings, DEAD) >= 5 * settings.event_partitions)
        finally:
            worker.kill()
            worker.wait()


def _wait(worker: subprocess.Popen[Any], condition: Callable[[], bool]) -> None:
    wait_until(condition, 60, "what the worker does", check=lambda: alive(worker))
