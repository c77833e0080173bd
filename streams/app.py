"""The Faust worker: ``faust -A streams.app worker`` runs the stages that PODSTREAM_STAGES names.

Without it, every Faust stage runs in this one worker. Each stage keeps its own consumer group,
so that two workers with the same stages share the partitions, and stages move between workers
freely. Start more workers to scale; give each its own ``--datadir`` and ``--web-port``.
"""

from __future__ import annotations

import importlib
import logging
import os
from pathlib import Path

import faust

from schemas.codec import Registry
from streams.kafka.registry import open_registry
from streams.runtime.faust.consumer import Transport
from streams.runtime.faust.runner import FaustContext
from streams.runtime.watchdog import watch_event_loop
from topology.graph import app_id, get_graph, is_on
from topology.model import Graph, Stage
from topology.settings import LOOPBACK, Settings, get_settings

log = logging.getLogger(__name__)


def chosen_stages(graph: Graph, names: tuple[str, ...]) -> list[Stage]:
    """The Faust stages of that name, all if there are none; ValueError for any other name."""
    known = {stage.name: stage for stage in graph.stages.values() if stage.runner == "faust"}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"PODSTREAM_STAGES names {', '.join(unknown)}; the Faust stages are {', '.join(known)}"
        )
    return [known[name] for name in names] if names else list(known.values())


def running_stages(graph: Graph, settings: Settings) -> list[Stage]:
    """The chosen stages that are switched on; ValueError if there is none."""
    chosen = chosen_stages(graph, settings.podstream_stages)
    running = [stage for stage in chosen if is_on(stage, settings)]
    if not running:
        switches = ", ".join(stage.switch.upper() for stage in chosen)
        raise ValueError(f"nothing to run: {switches} is off")
    return running


def stage_app(
    stage: Stage, settings: Settings, graph: Graph, registry: Registry, *, web: bool
) -> faust.App:
    """The Faust app of one stage."""
    # `faust --datadir` reaches an app by this variable only
    datadir = Path(os.environ.get("F_DATADIR", settings.podstream_home / "faust")) / stage.name
    datadir.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        app_id(stage),
        broker=[f"kafka://{server}" for server in settings.kafka_bootstrap_servers.split(",")],
        store="memory://",
        datadir=datadir,
        web_enabled=web,
        web_bind=LOOPBACK,
        web_host=LOOPBACK,
        topic_allow_declare=False,
        topic_disable_leader=True,
        autodiscover=False,
        worker_redirect_stdouts=False,
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
    app.transport = Transport(app.conf.broker_consumer, app)
    # A stage that only has timers subscribes to nothing, which a consumer refuses.
    app.producer_only = not stage.consumes
    context = FaustContext(app, stage, settings, graph, registry)
    importlib.import_module(stage.entry_point).register(context)
    return app


def build_worker(settings: Settings, graph: Graph) -> faust.App:
    """One app that carries the others: starting it starts every chosen stage."""
    registry = open_registry(settings)
    first, *others = running_stages(graph, settings)
    main = stage_app(first, settings, graph, registry, web=True)
    main.task(watch_event_loop)
    for stage in others:
        main.service(stage_app(stage, settings, graph, registry, web=False))  # type: ignore[arg-type]
    return main


app = build_worker(get_settings(), get_graph())
