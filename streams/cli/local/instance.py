"""Brings an instance up and takes it down: services first, then the graph, then the stages."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from pydantic import SecretStr
from rich.console import Console

from jobs.spark_jars import ensure_jars
from streams.api.access import refusal
from streams.cli.local.broker import BrokerError, wait_for_broker
from streams.cli.local.claims import (
    check_home,
    check_restored,
    claim_delta_root,
    names_of,
    orphans,
    starting,
    stop_orphans,
)
from streams.cli.local.mongo import MongoError, wait_for_mongo
from streams.cli.local.ports import free_range, is_free
from streams.cli.local.programs import (
    BROKER,
    DEMO_INDEX,
    MONGO,
    derive_programs,
    embedded_services,
    ports_needed,
    stop_order,
    web_addresses,
    write_targets,
)
from streams.cli.local.supervise import Supervisor, SupervisorError, log_file
from streams.cli.progress import Step, step
from streams.operations.disk import shortage
from topology.access import is_public, split_credentials
from topology.graph import build_graph
from topology.java import require_java
from topology.model import Graph
from topology.settings import LOOPBACK, PORT_OFFSETS, Settings, get_settings, instance_file

SERVICE_TIMEOUT_S = 90.0
STAGE_TIMEOUT_S = 180.0
DEMO_DISCOVER_INTERVAL_S = 5.0
_PORT_RANGE = max(PORT_OFFSETS.values()) + 20
_OF_A_PROCESS = {"podstream_stages", "podstream_version", "metrics_port"}
"""Settings that each process of an instance is given for itself."""


class InstanceError(RuntimeError):
    """The instance could not do what was asked; the message says what to do."""


# -- settings ------------------------------------------------------------------------------------


def settings_of_home(ports: str | None = None) -> Settings:
    """The settings for this process: of the running instance, else of the environment alone.

    ``ports`` is ``auto`` (a free range) or the first port; it counts for an instance that is not
    running. What a former instance left in its file does not decide how the next one starts.
    """
    running = Supervisor(Settings(_env_file=None).podstream_home).running()
    if running:
        return get_settings()
    if ports:
        os.environ["PODSTREAM_PORT_BASE"] = (
            str(free_range(_PORT_RANGE)) if ports == "auto" else ports
        )
    return Settings(_env_file=None)


def demo_settings(settings: Settings) -> Settings:
    """The settings with the demo index in PodcastIndex's place."""
    from streams.demo.demo_index import DEMO_KEY, DEMO_SECRET

    return settings.model_copy(
        update={
            "podcastindex_url": settings.demo_index_url,
            "podcastindex_key": SecretStr(DEMO_KEY),
            "podcastindex_secret": SecretStr(DEMO_SECRET),
            "fetch_allow_hosts": (f"{LOOPBACK}:{settings.port('demo_index')}",),
            "discover_interval_s": DEMO_DISCOVER_INTERVAL_S,
        }
    )


def variables(settings: Settings) -> dict[str, str]:
    """Every setting as an environment variable. Secrets are among them: for a 0600 file only."""
    shown = {}
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, tuple):
            value = ",".join(map(str, value))
        if name not in _OF_A_PROCESS and str(value):
            shown[(field.alias or name).upper()] = str(value)
    return shown


def environment(settings: Settings) -> dict[str, str]:
    """What a script needs to reach the instance: addresses and places.

    An address that carries a password is left out: what is printed ends up in logs.
    """
    every = variables(settings)
    names = ["PODSTREAM_HOME", "PODSTREAM_PORT_BASE", "KAFKA_BOOTSTRAP_SERVERS"]
    names += ["SCHEMA_REGISTRY_URL", "MONGODB_URI", "MONGODB_DATABASE", "DELTA_ROOT"]
    names += ["CHECKPOINT_ROOT", "EVENT_PARTITIONS"]
    shown = {name: every[name] for name in names if name in every and _is_shown(name, every[name])}
    return {**shown, "DASHBOARD_URL": settings.dashboard_url, "API_URL": settings.api_url}


def _is_shown(name: str, value: str) -> bool:
    if Settings.model_fields[name.lower()].annotation is SecretStr:
        return is_public(value)
    _, credentials = split_credentials(value) if "://" in value else (value, None)
    return credentials is None or not credentials[1]  # of abfss://container@account, no password


def write_instance_file(settings: Settings) -> Path:
    """Write the settings where every process of the instance reads them; readable by us alone."""
    path = instance_file(settings.podstream_home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        for key, value in variables(settings).items():
            escaped = value.replace("\\", "\\\\").replace("'", "\\'")
            # also between quotes ${…} is read as a variable: this one has no name, and a default
            escaped = escaped.replace("${", "${:-${}")
            file.write(f"{key}='{escaped}'\n")
    return path


def _child_environment(settings: Settings) -> dict[str, str]:
    """Our environment without settings: children read those from the instance's file alone."""
    spelled = {(f.alias or name).upper() for name, f in Settings.model_fields.items()}
    kept = {key: value for key, value in os.environ.items() if key.upper() not in spelled}
    return {**kept, "PODSTREAM_HOME": str(settings.podstream_home)}


# -- up ------------------------------------------------------------------------------------------


def start(settings: Settings, demo: bool, console: Console, only: tuple[str, ...] = ()) -> Settings:
    """Bring the instance up and return once all of it is healthy; give its settings.

    ``only`` names the processes to start, and no other is started. Starting what runs already
    changes nothing. Raises InstanceError.
    """
    if settings.podstream_version:
        raise InstanceError(
            "PODSTREAM_VERSION is set: an instance is the first version, and `podstream rebuild` "
            "adds others to it."
        )
    settings = demo_settings(settings) if demo else settings
    graph = build_graph(settings.event_partitions)
    supervisor = Supervisor(settings.podstream_home)
    if supervisor.running():
        _check_same_instance(supervisor, demo)
    else:
        _launch(supervisor, settings, graph, demo, console)
    names = [process.name for process in supervisor.processes()]
    if unknown := set(only) - set(names):
        raise InstanceError(
            f"No process {', '.join(sorted(unknown))} here: there are {', '.join(names)}."
        )
    wanted = [name for name in names if name in only] if only else names
    services = [name for name in (BROKER, MONGO) if name in wanted]
    # Spark takes longest, and waits for the topology by itself.
    slow = {stage.worker for stage in graph.stages.values() if stage.runner == "spark"}
    if services:
        with step(console, f"Starting {' and '.join(services)}"):
            supervisor.start([*services, *(name for name in wanted if name in slow)])
            _wait_for_services(settings, services)
    stages = [name for name in wanted if name not in services]
    if not only or stages:
        with step(console, "Applying the topology: topics, schemas, indexes"):
            from streams.kafka.registry import open_registry
            from topology.apply import apply_topology

            apply_topology(settings, open_registry(settings))
    if stages:
        from streams.serving.mongo.anew import serve_anew

        for name in serve_anew(settings, graph.stages.values()):
            console.print(f"MongoDB is empty: {name} writes it anew from the log.")
        with step(console, f"Starting {len(stages)} stage processes") as current:
            supervisor.start(stages)
            _wait_for_stages(supervisor, stages, web_addresses(settings, graph, demo), current)
    return settings


def check_running(settings: Settings) -> None:
    """Raise InstanceError if this instance has services of its own and they are switched off."""
    home = settings.podstream_home
    if embedded_services(settings) and not Supervisor(home).running():
        if left := names_of(orphans(home)):
            raise InstanceError(
                f"The supervisor in {home} was killed, and {', '.join(left)} go on without it: "
                "`podstream down` stops them, `podstream up` starts all anew."
            )
        raise InstanceError(
            f"Nothing runs in {home}. `podstream up` starts it; another home is "
            "chosen with PODSTREAM_HOME."
        )


def _check_same_instance(supervisor: Supervisor, demo: bool) -> None:
    has_demo = any(process.name == DEMO_INDEX for process in supervisor.processes())
    if demo and not has_demo:
        raise InstanceError(
            f"The instance in {supervisor.home} runs without the demo: `podstream down` it first, "
            "or choose another PODSTREAM_HOME with `--ports auto`."
        )


def _launch(
    supervisor: Supervisor, settings: Settings, graph: Graph, demo: bool, console: Console
) -> None:
    if sentence := refusal(settings):
        raise InstanceError(sentence)
    check_restored(settings.podstream_home)
    stop_orphans(settings.podstream_home, console)
    with step(console, "Checking Java, disk and ports"):
        require_java()
        _check_disk(settings)
        _check_ports(settings, graph, demo)
    ensure_jars()
    if unclaimed := claim_delta_root(settings.delta_root, settings.podstream_home):
        console.print(unclaimed, highlight=False, markup=False)
    with step(console, f"Preparing {settings.podstream_home}"):
        programs = derive_programs(settings, graph, demo)
        write_instance_file(settings)
        write_targets(settings, graph, demo)
        supervisor.launch(programs, _child_environment(settings))


def _check_disk(settings: Settings) -> None:
    settings.podstream_home.mkdir(parents=True, exist_ok=True)
    if (short := shortage(settings)) is not None:
        raise InstanceError(short)


def _check_ports(settings: Settings, graph: Graph, demo: bool) -> None:
    taken = {
        port: name
        for port, name in ports_needed(settings, graph, demo).items()
        if not is_free(port)
    }
    if taken:
        shown = ", ".join(f"{port} ({name})" for port, name in sorted(taken.items()))
        raise InstanceError(
            f"Something else listens on {shown}. If it is an older instance, `podstream down` it; "
            "else choose other ports: `--ports auto`, or PODSTREAM_PORT_BASE."
        )


def _wait_for_services(settings: Settings, services: list[str]) -> None:
    try:
        if BROKER in services:
            wait_for_broker(settings.kafka_bootstrap_servers, SERVICE_TIMEOUT_S)
        if MONGO in services:
            wait_for_mongo(settings.mongodb_uri.get_secret_value(), SERVICE_TIMEOUT_S)
    except (BrokerError, MongoError) as error:
        logs = "\n".join(tail(settings.podstream_home, name) for name in services)
        raise InstanceError(f"{error}\n{logs}") from error


def _wait_for_stages(
    supervisor: Supervisor, names: list[str], addresses: dict[str, tuple[str, int]], current: Step
) -> None:
    deadline = time.monotonic() + STAGE_TIMEOUT_S
    while True:
        running = {p.name for p in supervisor.processes() if p.state == "RUNNING"}
        waiting = [n for n in names if n not in running or not _answers(addresses.get(n))]
        if not waiting:
            return
        current.tell(f"{len(names) - len(waiting)} ready, waiting for {', '.join(waiting)}")
        if time.monotonic() > deadline:
            logs = "\n".join(tail(supervisor.home, name) for name in waiting)
            raise InstanceError(f"Not up in time: {', '.join(waiting)}.\n{logs}")
        time.sleep(0.25)


def _answers(address: tuple[str, int] | None) -> bool:
    """Whether something accepts connections there; True where there is none to ask."""
    if address is None:
        return True
    try:
        with socket.create_connection(address, timeout=0.5):
            return True
    except OSError:
        return False


def tail(home: Path, name: str, lines: int = 12) -> str:
    """The end of a program's log, under its path."""
    path = log_file(home, name)
    if not path.exists():
        return f"{path}: no log"
    return "\n".join([f"{path}:", *path.read_text(errors="replace").splitlines()[-lines:]])


# -- down ----------------------------------------------------------------------------------------


def stop(settings: Settings, console: Console) -> bool:
    """Stop every process cleanly, the log last; False if nothing ran."""
    supervisor = Supervisor(settings.podstream_home)
    if not supervisor.running():
        left = stop_orphans(settings.podstream_home, console)
        instance_file(settings.podstream_home).unlink(missing_ok=True)
        return bool(left)
    try:
        names = [process.name for process in supervisor.processes() if process.pid]
        for tier in stop_order(names, build_graph(settings.event_partitions)):
            with step(console, f"Stopping {', '.join(tier)}"):
                supervisor.stop(tier)
        supervisor.shutdown()
    except SupervisorError:
        if supervisor.running():
            raise
        console.print("Whoever stops this instance as well has ended it.")
    instance_file(settings.podstream_home).unlink(missing_ok=True)
    return True


# -- the foreground ------------------------------------------------------------------------------


@contextmanager
def stop_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block like Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Further signals do not cut a clean stop short."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.signal(n, signal.SIG_IGN) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def up(
    settings: Settings,
    demo: bool,
    detach: bool,
    console: Console,
    only: tuple[str, ...] = (),
    demo_timeout_s: float = 300.0,
) -> None:
    """Bring the instance up; stay until Ctrl-C or SIGTERM and stop it, unless ``detach``.

    Raises InstanceError, ClaimError, JavaError, JarsError, BrokerError, SupervisorError.
    """
    from streams.cli.showcase import show_demo, watch

    check_home(settings.podstream_home)
    with ExitStack() as alone:
        # Before anything is stopped after a failure: the instance may be another's.
        alone.enter_context(starting(settings.podstream_home))
        ran_before = Supervisor(settings.podstream_home).running()
        if ran_before and not detach:
            raise InstanceError(
                f"The instance in {settings.podstream_home} is running already (dashboard: "
                f"{settings.dashboard_url}). `podstream status` shows it, `podstream down` stops "
                "it; `podstream up --detach` starts what is missing of it."
            )
        try:
            with stop_signals():
                settings = start(settings, demo, console, only)
                alone.close()
                if demo and not only:
                    show_demo(settings, console, demo_timeout_s)
                console.print(f"Dashboard: {settings.dashboard_url}", highlight=False)
                console.print(f"API: {settings.api_url}/docs", highlight=False)
                if detach:
                    console.print("Running in the background. Stop it with: podstream down")
                    return
                console.print("Stop it with Ctrl-C.")
                watch(settings, console)
        except KeyboardInterrupt:
            if ran_before:
                console.print(
                    f"\nThe instance in {settings.podstream_home} ran before, and goes on: "
                    "`podstream down` stops it.",
                    highlight=False,
                )
                raise
            console.print("\nStopping every process; a second run continues from here.")
            _stop_all(settings, console)
            console.print("Everything has stopped.")
        except Exception:
            if not ran_before:
                _stop_all(settings, console)
            raise


def _stop_all(settings: Settings, console: Console) -> None:
    with _undisturbed():
        stop(settings, console)
