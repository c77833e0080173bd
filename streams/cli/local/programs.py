"""The processes of an instance, derived from the topology: what runs where, and in which order."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from streams.cli.local.broker import broker_command
from streams.cli.local.mongo import mongo_command
from streams.cli.local.supervise import Program
from topology.graph import workers
from topology.model import Graph, Stage
from topology.settings import LOOPBACK, Settings

BROKER, MONGO, DEMO_INDEX, EXPORTER = "broker", "mongo", "demo_index", "exporter"

_ROOT = Path(__file__).parents[3]


def embedded_services(settings: Settings) -> list[str]:
    """Which services this instance runs itself: those whose address was left to it."""
    services = []
    if settings.kafka_bootstrap_servers == f"{LOOPBACK}:{settings.port('kafka')}":
        services.append(BROKER)
    if settings.mongodb_uri.get_secret_value() == f"mongodb://{LOOPBACK}:{settings.port('mongo')}":
        services.append(MONGO)
    return services


def stage_workers(graph: Graph, demo: bool) -> dict[str, list[Stage]]:
    """The stages' processes of an instance: worker name -> its stages."""
    return workers(stage for stage in graph.stages.values() if demo or not stage.demo_only)


def web_ports(settings: Settings, graph: Graph, demo: bool) -> dict[str, int]:
    """The port on which each process with a web page or a health check listens."""
    groups = stage_workers(graph, demo)
    faust = [name for name, stages in groups.items() if stages[0].runner == "faust"]
    first = settings.port("faust_web")
    ports = {name: first + number for number, name in enumerate(faust)}
    for name, stages in groups.items():
        if stages[0].runner == "streamlit":
            ports[name] = settings.port("dashboard")
        if stages[0].runner == "uvicorn":
            ports[name] = settings.api_port
        if stages[0].runner == "spark":
            ports[name] = settings.port("spark_ui")
    if demo:
        ports[DEMO_INDEX] = settings.port("demo_index")
    return ports


def metrics_ports(settings: Settings, graph: Graph, demo: bool) -> dict[str, int]:
    """The port on which each process answers `/metrics`, `/health` and `/ready`.

    The dashboard is not among them: Streamlit has a health check of its own.
    """
    names = [
        name
        for name, stages in stage_workers(graph, demo).items()
        if stages[0].runner != "streamlit"
    ]
    if settings.exporter:
        names.append(EXPORTER)
    first = settings.port("metrics")
    return {name: first + number for number, name in enumerate(names)}


def write_targets(settings: Settings, graph: Graph, demo: bool) -> Path:
    """Write where each process answers, as Prometheus's `file_sd_configs` reads it."""
    path = settings.podstream_home / "run" / "prometheus.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    targets = [
        {"targets": [f"{LOOPBACK}:{port}"], "labels": {"process": name}}
        for name, port in metrics_ports(settings, graph, demo).items()
    ]
    path.write_text(json.dumps(targets, indent=1) + "\n")
    return path


def web_addresses(settings: Settings, graph: Graph, demo: bool) -> dict[str, tuple[str, int]]:
    """Where each of these processes is reached from this machine."""
    hosts = {
        name: urlsplit(settings.api_url).hostname
        for name, stages in stage_workers(graph, demo).items()
        if stages[0].runner == "uvicorn"
    }
    ports = web_ports(settings, graph, demo)
    return {name: (hosts.get(name) or LOOPBACK, port) for name, port in ports.items()}


def ports_needed(settings: Settings, graph: Graph, demo: bool) -> dict[int, str]:
    """Every port the instance binds, with the name of the process that does."""
    needed = {port: name for name, port in web_ports(settings, graph, demo).items()}
    needed |= {port: name for name, port in metrics_ports(settings, graph, demo).items()}
    services = embedded_services(settings)
    if BROKER in services:
        needed[settings.port("kafka")] = BROKER
        needed[settings.port("kafka_controller")] = BROKER
    if MONGO in services:
        needed[settings.port("mongo")] = MONGO
    return needed


def derive_programs(settings: Settings, graph: Graph, demo: bool) -> list[Program]:
    """Every process of the instance, services first.

    It formats the embedded broker's storage where that is new. JavaError, JarsError and BrokerError
    if it cannot.
    """
    home = settings.podstream_home
    common = _common_environment()
    programs = []
    services = embedded_services(settings)
    if BROKER in services:
        argv, extra = broker_command(
            home, settings.port("kafka"), settings.port("kafka_controller")
        )
        programs.append(Program(BROKER, tuple(argv), home, {**common, **extra}, stop_wait_s=30))
    if MONGO in services:
        argv, extra = mongo_command(home, settings.port("mongo"))
        programs.append(Program(MONGO, tuple(argv), home, {**common, **extra}))
    ports = web_ports(settings, graph, demo)
    if demo:
        argv = _module("streams.demo.demo_index", "--port", str(ports[DEMO_INDEX]))
        argv += ["--remember", str(home / "demo_started_at")]
        if settings.demo_misbehave:
            argv += ["--misbehave", settings.demo_misbehave]
        programs.append(Program(DEMO_INDEX, tuple(argv), home, common))
    for name, stages in stage_workers(graph, demo).items():
        programs.append(_stage_program(settings, name, stages, ports.get(name), common))
    if settings.exporter:
        argv = _module("streams.cli.main", EXPORTER)
        programs.append(Program(EXPORTER, tuple(argv), home, common))
    answering = metrics_ports(settings, graph, demo)
    return [_answering(program, answering.get(program.name)) for program in programs]


def _answering(program: Program, port: int | None) -> Program:
    """The program, told where it answers for its metrics."""
    if port is None:
        return program
    environment = {**program.environment, "METRICS_PORT": str(port)}
    return replace(program, environment=environment)


def version_programs(settings: Settings, graph: Graph) -> list[Program]:
    """The processes of a version beside the first, as its code would have them run."""
    common = {
        **_common_environment(),
        "PYTHONPATH": str(_ROOT),
        "PODSTREAM_VERSION": settings.podstream_version,
    }
    programs = []
    for worker, stages in stage_workers(graph, demo=False).items():
        name = f"{settings.podstream_version}-{worker}"
        programs.append(_stage_program(settings, name, stages, None, common))
    return programs


def stop_order(names: Iterable[str], graph: Graph) -> list[list[str]]:
    """Programs in the groups in which they stop: readers of the log first, the log itself last."""
    runners = {name: stages[0].runner for name, stages in stage_workers(graph, demo=True).items()}
    demo = {stage.worker for stage in graph.stages.values() if stage.demo_only}
    tiers: dict[int, list[str]] = {}
    for name in names:
        if name in (BROKER, MONGO):
            tier = 3
        elif name == DEMO_INDEX or (runners.get(name) == "confluent" and name not in demo):
            tier = 2  # what Faust workers still talk to
        elif runners.get(name) == "faust":
            tier = 1
        else:
            tier = 0
        tiers.setdefault(tier, []).append(name)
    return [sorted(tiers[tier]) for tier in sorted(tiers)]


def _stage_program(
    settings: Settings, name: str, stages: list[Stage], port: int | None, common: dict[str, str]
) -> Program:
    home, stage = settings.podstream_home, stages[0]
    if stage.runner == "faust":
        argv = _script("faust", "-A", "streams.app", "--datadir", str(home / "faust" / name))
        argv += ["--loglevel", settings.log_level.lower()]
        argv += ["--quiet"] if settings.log_format == "json" else []  # no banner
        argv += ["worker"]
        # nobody asks the workers of a version how they are but by their progress
        argv += ["--web-host", LOOPBACK, "--web-port", str(port)] if port else ["--without-web"]
        chosen = {
            "PODSTREAM_STAGES": ",".join(one.name for one in stages),
            # small matrix products: threads of BLAS that spin for a busy core cost 5 to 20 times
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
        return Program(name, tuple(argv), home, {**common, **chosen})
    if stage.runner == "spark":
        argv = _module("jobs.application")
        # its JVM is told by its parent, which stops the queries first
        return Program(name, tuple(argv), home, common, stop_wait_s=40, signal_group=False)
    if stage.runner == "streamlit":
        argv = _script("streamlit", "run", str(_ROOT / stage.entry_point))
        argv += ["--server.address", LOOPBACK, "--server.port", str(port)]
        argv += ["--server.headless", "true", "--browser.gatherUsageStats", "false"]
        return Program(name, tuple(argv), _ROOT, common)
    return Program(name, tuple(_module(stage.entry_point)), home, common)


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]


def _script(name: str, *arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name(name)), *arguments]


def _common_environment() -> dict[str, str]:
    """What keeps a dozen processes on one machine from taking all of it; the user's word wins."""
    threads = str(min(2, os.cpu_count() or 1))
    defaults = {
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads,
        # frames of a few rows, many times a second: a second thread costs more to wake than it does
        "POLARS_MAX_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",  # glibc's arenas, one a thread, otherwise double the memory
        "TOKENIZERS_PARALLELISM": "false",
    }
    return {key: value for key, value in defaults.items() if key not in os.environ}
