"""One Spark session and one applied topology for the whole tier: both are slow to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.session import build_session
from streams.cli.local.broker import running_broker
from streams.cli.local.ports import free_range
from streams.kafka.registry import open_registry
from topology.apply import apply_topology
from topology.graph import build_graph
from topology.model import Graph
from topology.settings import PORT_OFFSETS, Settings

PARTITIONS = 2


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of this tier's own: the other tiers' topics have another number of partitions."""
    with running_broker(tmp_path_factory.mktemp("spark-broker")) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def spark_settings(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of an instance whose topics exist on the session's broker."""
    settings = Settings.model_validate(
        {
            "podstream_home": tmp_path_factory.mktemp("spark"),
            "podstream_port_base": free_range(max(PORT_OFFSETS.values()) + 1),
            "event_partitions": PARTITIONS,
            "kafka_bootstrap_servers": broker,
            "spark_driver_memory": "1g",
            "delta_trigger_s": 0.5,
        }
    )
    apply_topology(settings, open_registry(settings), mongo=False)
    return settings


@pytest.fixture(scope="session")
def graph() -> Graph:
    return build_graph(PARTITIONS)


@pytest.fixture(scope="session")
def spark(spark_settings: Settings) -> Iterator[SparkSession]:
    session = build_session(spark_settings)
    yield session
    session.stop()


@pytest.fixture
def settings(spark_settings: Settings, tmp_path: Path) -> Settings:
    """The same broker, with Delta tables and checkpoints of the test's own."""
    return spark_settings.model_copy(
        update={"delta_root": f"{tmp_path}/delta", "checkpoint_root": f"{tmp_path}/checkpoints"}
    )
