"""A broker for each module of the tier, which names its PARTITIONS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streams.cli.local.broker import running_broker
from streams.kafka.registry import open_registry
from topology.apply import apply_topology
from topology.settings import Settings


@pytest.fixture(scope="module")
def settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """Settings of a home with a broker of its own, all topics in place.

    The module's ``PARTITIONS`` says how many event partitions; its ``SETTINGS``, if there, more.
    """
    home = tmp_path_factory.mktemp("chaos")
    with running_broker(home) as bootstrap:
        settings = Settings(
            podstream_home=home,
            kafka_bootstrap_servers=bootstrap,
            event_partitions=request.module.PARTITIONS,
            **getattr(request.module, "SETTINGS", {}),
        )
        apply_topology(settings, open_registry(settings), mongo=False)
        yield settings
