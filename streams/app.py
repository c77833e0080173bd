"""The Faust worker: ``faust -A streams.app worker`` runs the stages that PODSTREAM_STAGES names.

Without it, every Faust stage runs in this one worker. Each stage keeps its own consumer group,
so that two workers with the same stages share the partitions, and stages move between workers
freely. Start more workers to scale; give each its own ``--datadir`` and ``--web-port``.
"""

from __future__ import annotations

import asyncio
import logging

import faust

from streams.kafka.entry import refusals_as_sentences, require_access
from streams.kafka.registry import open_registry
from streams.monitoring.instruments import measured
from streams.monitoring.server import serve
from streams.runtime.faust.stage_app import stage_context
from streams.runtime.faust.stage_monitor import WorkerMonitor
from streams.runtime.watchdog import watch_event_loop
from streams.runtime.without_pandas import keep_pandas_out
from topology.graph import get_graph, is_on
from topology.model import Graph, Stage
from topology.settings import Settings, get_settings

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


def worker_name(watched: WorkerMonitor) -> str:
    """The worker that the stages belong to; ``faust`` if they belong to several."""
    names = {one.monitor.stage.worker for one in watched.stages}
    return names.pop() if len(names) == 1 else "faust"


def build_worker(settings: Settings, graph: Graph) -> faust.App:
    """One app that carries the others: starting it starts every chosen stage."""
    registry = open_registry(settings)
    first, *others = (
        stage_context(stage, settings, graph, registry, web=place == 0)
        for place, stage in enumerate(running_stages(graph, settings))
    )
    main = first.app

    async def tell() -> None:
        watched = WorkerMonitor(asyncio.get_running_loop(), (first, *others))
        measured(watched.families)
        serve(settings, worker_name(watched), alive=watched.alive, ready=watched.missing)

    main.task(tell)
    main.task(watch_event_loop)
    for other in others:
        main.service(other.app)  # type: ignore[arg-type]
    return main


def admitted_worker() -> faust.App:
    """The worker of this process's settings; it ends with a sentence if a server refuses it."""
    keep_pandas_out()
    settings, graph = get_settings(), get_graph()
    stages = running_stages(graph, settings)
    serving = any(set(stage.writes + stage.reads) & graph.collections.keys() for stage in stages)
    with refusals_as_sentences():
        require_access(settings, mongo=serving)
    return build_worker(settings, graph)


app = admitted_worker()
