"""Fixtures every tier shares: real services, started once a session, never skipped."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from streams.cli.local.broker import running_broker
from streams.cli.local.mongo import running_mongo
from tests.chaos.processes import Processes
from tests.drawing import EVERYTHING
from tests.paths import ROOT
from topology.graph import get_graph
from topology.settings import Settings, get_settings

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("podstream", deadline=None)
hypothesis.settings.register_profile("everything", deadline=None, max_examples=500)
hypothesis.settings.load_profile("everything" if os.environ.get(EVERYTHING) else "podstream")


WARNINGS_PASS = ("smoke", "spark")
"""Folders of tests in which a warning is no error; PySpark, for one, leaves sockets unclosed."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hold a warning for an error, but in the folders where they pass."""
    folders = [ROOT / "tests" / name for name in WARNINGS_PASS]
    for item in items:
        if not any(item.path.is_relative_to(folder) for folder in folders):
            item.add_marker(pytest.mark.filterwarnings("error"))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Trace nothing in a test marked `no_cover`, in its threads neither.

    In a process of xdist pytest-cov has begun two measurements, one on top of the other: when it
    pauses its own for a test, the other one goes on and takes the same time.
    """
    if item.get_closest_marker("no_cover") is None:
        return (yield)
    here, in_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(here)
        threading.settrace(in_threads)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests were given by chance, so that a failure can be had again."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for what, value in report.user_properties:
                terminalreporter.write_line(f"{report.nodeid}: {what} {value}")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real broker, shared by the session. Topics are yours to create."""
    with running_broker(tmp_path_factory.mktemp("broker")) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of the embedded MongoDB server, shared by the session. Choose a database of your own."""
    with running_mongo(tmp_path_factory.mktemp("mongo")) as uri:
        yield uri


@pytest.fixture
def podstream_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home; `get_settings()` and `get_graph()` read it for the length of a test."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("PODSTREAM_HOME", str(home))
    caches = (get_settings, get_graph)
    for cached in caches:
        cached.cache_clear()
    yield home
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def processes(settings: Settings) -> Iterator[Processes]:
    """Processes on the broker of the module's ``settings``: nothing started yet, and whatever
    still runs at the end is killed."""
    running = Processes(settings)
    yield running
    running.kill_all()
