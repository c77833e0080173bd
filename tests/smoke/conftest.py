"""One running platform for the smoke tier, started the way `make smoke` starts it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.smoke.instance import Instance


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """The demo, running, after its smoke run; stopped at the end."""
    home = tmp_path_factory.mktemp("platform")
    instance = Instance(home, {})
    try:
        done = instance.run("smoke", "--home", str(home), "--keep-running", "--json", timeout=1000)
        assert done.stdout, done.stderr
        instance = Instance(home, json.loads(done.stdout))
        yield instance
    finally:
        instance.run("down")
