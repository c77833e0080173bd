"""The Faust app of one stage: its consumer group, its limits, and its handlers."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import faust
from faust import SASLCredentials, SSLCredentials

from schemas.codec import Registry
from streams.monitoring.logs import json_config
from streams.runtime.faust.consumer import Transport
from streams.runtime.faust.runner import FaustContext
from topology.access import ssl_context
from topology.graph import app_id
from topology.model import Graph, Stage
from topology.settings import LOOPBACK, Settings


def credentials(settings: Settings) -> SASLCredentials | SSLCredentials | None:
    """How Faust's consumer proves who it is; None for brokers that ask nobody."""
    context = ssl_context(settings)
    if settings.kafka_uses_sasl:
        return SASLCredentials(
            username=settings.kafka_sasl_username,
            password=settings.kafka_sasl_password.get_secret_value(),
            ssl_context=context,
            mechanism=settings.kafka_sasl_mechanism,
        )
    return SSLCredentials(context) if context else None


def stage_context(
    stage: Stage, settings: Settings, graph: Graph, registry: Registry, *, web: bool
) -> FaustContext:
    """One stage on a Faust app of its own, which the context has as ``app``."""
    # `faust --datadir` reaches an app by this variable only
    datadir = Path(os.environ.get("F_DATADIR", settings.podstream_home / "faust")) / stage.name
    datadir.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        app_id(stage),
        broker=[f"kafka://{server}" for server in settings.kafka_bootstrap_servers.split(",")],
        broker_credentials=credentials(settings),
        store="memory://",
        datadir=datadir,
        web_enabled=web,
        web_bind=LOOPBACK,
        web_host=LOOPBACK,
        topic_allow_declare=False,
        topic_disable_leader=True,
        autodiscover=False,
        worker_redirect_stdouts=False,
        logging_config=(
            json_config(settings, stage.worker) if settings.log_format == "json" else None
        ),
        # Wait for what is being processed before partitions leave: its state then is in the log.
        stream_wait_empty=True,
        # Messages hold up to 16 MB: what waits in memory is bounded by their number and by fetches.
        stream_buffer_maxsize=32,
        broker_commit_interval=0.5,
        broker_commit_every=100_000,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 * 1_048_576,
        producer_max_request_size=32 * 1_048_576,
        producer_linger=0.0,
        producer_compression_type="lz4",
    )
    app.transport = transport = Transport(app.conf.broker_consumer, app)
    # A stage that only has timers subscribes to nothing, which a consumer refuses.
    app.producer_only = not stage.consumes
    context = FaustContext(app, stage, settings, graph, registry)
    transport.on_missing = context.on_missing
    importlib.import_module(stage.entry_point).register(context)
    return context
