"""A dashboard on free ports over stores seeded with a made-up evening of listening."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright
from pymongo import MongoClient

from dashboard.screenshot import CHROMIUM, CHROMIUM_ARGUMENTS
from streams.cli.local.ports import free_ports
from tests.browser.seed import Stores, seed
from tests.paths import ROOT
from topology.settings import LOOPBACK


@dataclass
class Dashboard:
    """A running dashboard."""

    url: str
    stores: Stores
    log: Path


@pytest.fixture(scope="session")
def start_dashboard(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str, str, Path], tuple[str, Path]]]:
    """Start ``streamlit run dashboard/app.py`` as the platform does; gives its URL and its log."""
    started = []

    def start(mongodb_uri: str, database: str, delta_root: Path) -> tuple[str, Path]:
        home = tmp_path_factory.mktemp("dashboard")
        port = free_ports(1)[0]
        log = home / "dashboard.log"
        environment = {
            **os.environ,
            "PODSTREAM_HOME": str(home),
            "MONGODB_URI": mongodb_uri,
            "MONGODB_DATABASE": database,
            "DELTA_ROOT": str(delta_root),
        }
        argv = [sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard/app.py")]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*argv, "--server.port", str(port)],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=home,
            )
        started.append(process)
        url = f"http://{LOOPBACK}:{port}"
        wait_until_healthy(url, process, log)
        return url, log

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(20)


def wait_until_healthy(url: str, process: subprocess.Popen[Any], log: Path) -> None:
    """Return once Streamlit answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):  # noqa: S310
                return
        except OSError:
            assert process.poll() is None, f"the dashboard ended:\n{log.read_text()}"
            time.sleep(0.2)
    raise AssertionError(f"the dashboard did not answer within 60 s:\n{log.read_text()}")


@pytest.fixture(scope="session")
def dashboard(
    mongo_uri: str, start_dashboard: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dashboard]:
    """The dashboard over rich stores."""
    name = "dashboard_browser"
    delta_root = tmp_path_factory.mktemp("delta")
    with MongoClient[dict[str, Any]](mongo_uri, tz_aware=True) as client:
        now = datetime.now(UTC).replace(microsecond=0)
        stores = Stores(client[name], delta_root, now)
        seed(stores)
        url, log = start_dashboard(mongo_uri, name, delta_root)
        yield Dashboard(url, stores, log)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's chromium, headless.

    Gone after this module: while playwright runs, no test of this process can run an event loop.
    """
    assert Path(CHROMIUM).exists(), (
        f"These tests drive {CHROMIUM}, which is missing: install Debian's package chromium."
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()
