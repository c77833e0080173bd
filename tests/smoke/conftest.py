"""One running platform for the smoke tier, started the way `make smoke` starts it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.smoke.instance import Instance

PATIENCE_S = 1000
"""Longest until everything came: a machine whose two cores are slow takes half of it."""


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """The demo, running, after its smoke run; stopped at the end."""
    home = tmp_path_factory.mktemp("platform")
    instance = Instance(home, {})
    try:
        options = ("--home", str(home), "--keep-running", "--json", "--timeout", f"{PATIENCE_S}")
        done = instance.run("smoke", *options, timeout=PATIENCE_S + 400)
        assert done.stdout, done.stderr
        instance = Instance(home, json.loads(done.stdout))
        yield instance
    finally:
        instance.run("down")
