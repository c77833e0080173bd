"""Every stage on a broker with TLS, SCRAM and access control lists, as a user of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme

from streams.cli.local.ports import free_ports, free_range
from streams.kafka.clients import producer
from streams.kafka.log_reader import LogReader
from streams.kafka.registry import open_registry
from streams.kafka.wire import Wire, key_bytes
from tests.paths import ROOT
from tests.secured.secured import (
    ADMIN_PASSWORD,
    CANARY,
    Cluster,
    allow,
    certificates,
    make_users,
    process,
    secured_broker,
)
from tests.waiting import wait_until
from topology.access import require_kafka
from topology.acls import OPERATOR
from topology.graph import app_id, build_graph, is_on
from topology.settings import LOOPBACK, Settings, get_settings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]

GRAPH = build_graph(2)
ANSWER_S = 15.0
FAUST = [
    stage
    for stage in GRAPH.stages.values()
    if stage.runner == "faust" and is_on(stage, Settings(_env_file=None))
]


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.RSA)


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, ca: trustme.CA, mongo_uri: str
) -> Iterator[Cluster]:
    """The broker, with users and rights as `podstream topology acls` prints them, and topics."""
    with secured_broker(tmp_path_factory.mktemp("secured"), ca) as made:
        printed = podstream(made, OPERATOR, "topology", "acls")
        users = allow(made, printed.stdout.splitlines())
        make_users(made, users)
        applied = podstream(made, OPERATOR, "topology", "apply", MONGODB_URI=mongo_uri)
        assert applied.returncode == 0, applied.stdout + applied.stderr
        yield made


def podstream(
    cluster: Cluster, user: str, *words: str, **others: str
) -> subprocess.CompletedProcess[str]:
    """A command of the command line, as a user."""
    return subprocess.run(
        [sys.executable, "-m", "streams.cli.main", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **cluster.environment(user, **others)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def as_operator(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The clients of this process are the operator's."""
    for name, value in cluster.environment(OPERATOR).items():
        monkeypatch.setenv(name, value)
    caches = (get_settings, require_kafka)
    for cached in caches:
        cached.cache_clear()
    yield get_settings()
    for cached in caches:
        cached.cache_clear()


def worker_words(home: Path) -> list[str]:
    (port,) = free_ports(1)
    faust = [str(Path(sys.executable).with_name("faust")), "-A", "streams.app"]
    address = ["--web-host", LOOPBACK, "--web-port", str(port)]
    return [*faust, "--datadir", str(home), "worker", *address]


@contextmanager
def running(
    cluster: Cluster, user: str, log: Path, *words: str, **others: str
) -> Iterator[subprocess.Popen[Any]]:
    """A process of this user for as long as the block lasts."""
    with log.open("ab") as output:
        started = process(cluster.environment(user, **others), *words, output=output)
    try:
        yield started
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def command_lines() -> str:
    """The arguments of every process of this machine that may be read."""
    every = psutil.process_iter(["cmdline"])
    return "\n".join(" ".join(one.info["cmdline"] or ()) for one in every)


def produce_events(settings: Settings, count: int) -> None:
    wire = Wire(GRAPH, open_registry(settings))
    out = producer(settings.kafka_bootstrap_servers)
    for number in range(count):
        user = f"user-{number % 7}"
        event = {
            "event_id": f"e{number}",
            "user_id": user,
            "episode_id": f"pi:{number % 5}",
            "kind": "play",
            "occurred_at": datetime.now(UTC),
        }
        out.produce("user-events", wire.encode("user-events", event), key_bytes(user))
    assert out.flush(30) == 0


def test_every_stage_works_with_what_the_graph_gives_it_and_no_more(
    cluster: Cluster, as_operator: Settings, mongo_uri: str, tmp_path: Path
) -> None:
    logs = {stage.name: tmp_path / f"{stage.name}.log" for stage in FAUST}
    logs["batch_events"] = tmp_path / "batch_events.log"
    with ExitStack() as stack:
        started = {"batch_events": stack.enter_context(running(
            cluster, "batch_events", logs["batch_events"], "-m", "streams.events.batch_events"
        ))}  # fmt: skip
        for stage in FAUST:
            variables = {"PODSTREAM_STAGES": stage.name, "MONGODB_URI": mongo_uri}
            words = worker_words(tmp_path / stage.name)
            one = running(cluster, stage.name, logs[stage.name], *words, **variables)
            started[stage.name] = stack.enter_context(one)

        def alive() -> None:
            for name, one in started.items():
                assert one.poll() is None, f"{name} ended:\n{logs[name].read_text()[-3000:]}"

        produce_events(as_operator, 500)
        known = GRAPH.stages.values()
        read = [stage for stage in known if stage.name in started and stage.consumes]

        def members() -> bool:
            groups = cluster.admin.describe_consumer_groups([app_id(stage) for stage in read])
            return all(future.result(30).members for future in groups.values())

        wait_until(members, 300, "a member of every stage's group", every_s=1, check=alive)
        # `learn_blend` has nothing to tell before a list was shown.
        made = (
            *("user-event-batches", "engagement-windows", "user-episode-daily"),
            *("trending-episodes", "recommendations"),
        )
        with LogReader(as_operator.kafka_bootstrap_servers) as reader:

            def written() -> bool:
                return all(sum(reader.ends(topic).values()) for topic in made)

            wait_until(written, 240, f"records in {made}", every_s=1, check=alive)
        shown = command_lines()
        listed = podstream(cluster, OPERATOR, "env")
        alive()
    assert listed.returncode == 0
    texts = {"command lines": shown, "env": listed.stdout + listed.stderr}
    texts |= {name: log.read_text() for name, log in logs.items()}
    assert [name for name, text in texts.items() if CANARY in text] == []
    assert cluster.denials() == set()


def test_a_stage_may_truncate_its_own_state_and_write_to_nobody_elses_topic(
    cluster: Cluster, tmp_path: Path
) -> None:
    stage = GRAPH.stages["track_listening"]
    own = next(name for name in GRAPH.topics if name.startswith(f"{app_id(stage)}-"))
    script = f"""
from confluent_kafka import TopicPartition
from streams.kafka.clients import producer
from topology.access import admin_client
from topology.settings import get_settings
servers = get_settings().kafka_bootstrap_servers
admin = admin_client(servers)
for future in admin.delete_records([TopicPartition({own!r}, 0, 0)]).values():
    future.result(30)
for topic in ("user-episode-daily", "recommendations"):
    out = producer(servers)
    out.produce(topic, b"x", on_delivery=lambda error, _: print(topic, error and error.name()))
    out.flush(30)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), **cluster.environment(stage.name)},
        capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "user-episode-daily None",
        "recommendations TOPIC_AUTHORIZATION_FAILED",
    ], done.stderr


WORKER = ("worker",)


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "streams.events.batch_events"),
        WORKER,
        ("-m", "streams.demo.simulate_listeners"),
        ("-m", "jobs.application"),
        ("-m", "streams.cli.main", "topology", "plan"),
        ("-m", "streams.cli.main", "status"),
        ("-m", "streams.cli.main", "dlq", "list"),
    ],
)
def test_a_wrong_password_ends_a_process_with_a_sentence(
    cluster: Cluster, tmp_path: Path, words: tuple[str, ...]
) -> None:
    told = worker_words(tmp_path / "faust") if words is WORKER else list(words)
    wrong = cluster.environment(
        "track_listening",
        KAFKA_SASL_PASSWORD=f"{CANARY}-wrong",
        PODSTREAM_STAGES="track_listening",
        MONGODB_URI="mongodb://db.example",  # else the embedded one, of an instance that is not up
    )
    with (tmp_path / "log").open("wb") as output:
        began = time.monotonic()
        ended = process(wrong, *told, output=output)
        code = ended.wait(120)
        seconds = time.monotonic() - began
    said = (tmp_path / "log").read_text()
    assert code == 1, said
    assert seconds < ANSWER_S
    assert re.fullmatch(
        rf"Kafka at {cluster.address} refuses user 'track_listening' \(.*\): .*\n", said
    ), said
    assert CANARY not in said


def test_a_broker_whose_certificate_is_unknown_or_anothers_is_not_spoken_to(
    cluster: Cluster, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    for changed in (
        {"KAFKA_SSL_CA_FILE": str(stranger)},
        {"KAFKA_BOOTSTRAP_SERVERS": f"localhost:{cluster.port}"},  # it is issued for the address
    ):
        asked = podstream(cluster, OPERATOR, "dlq", "list", **changed)
        assert asked.returncode == 1, asked.stdout + asked.stderr
        (line,) = asked.stderr.splitlines()
        assert line.startswith("No TLS connection to Kafka at"), line
        assert "KAFKA_SSL_CA_FILE" in line


def test_a_certificate_stands_for_a_user(
    cluster: Cluster, ca: trustme.CA, tmp_path: Path, as_operator: Settings
) -> None:
    """Faust's consumer, and ours beside it, behind a listener that asks for certificates."""
    certificate, key = certificates(tmp_path, ca, "track_listening")
    mutual = {
        "KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{cluster.mutual_port}",
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_SASL_USERNAME": "",
        "KAFKA_SASL_PASSWORD": "",
        "KAFKA_SSL_CERTIFICATE_FILE": str(certificate),
        "KAFKA_SSL_KEY_FILE": str(key),
        "PODSTREAM_STAGES": "track_listening",
    }
    log = tmp_path / "worker.log"
    words = worker_words(tmp_path / "faust")
    group = app_id(GRAPH.stages["track_listening"])
    with running(cluster, "track_listening", log, *words, **mutual) as worker:

        def member() -> bool:
            assert worker.poll() is None, log.read_text()[-3000:]
            (described,) = cluster.admin.describe_consumer_groups([group]).values()
            return bool(described.result(30).members)

        wait_until(member, 120, "a member that showed a certificate", every_s=0.5)


def test_spark_reads_and_writes_as_its_own_user(
    cluster: Cluster, as_operator: Settings, mongo_uri: str, tmp_path: Path
) -> None:
    produce_events(as_operator, 200)
    log, batching = tmp_path / "spark.log", tmp_path / "batch_events.log"
    home = tmp_path / "home"
    variables = {
        "PODSTREAM_HOME": str(home),
        "PODSTREAM_PORT_BASE": str(free_range(12)),
        "DELTA_TRIGGER_S": "0.5",
    }
    with (
        running(cluster, "batch_events", batching, "-m", "streams.events.batch_events"),
        running(cluster, "spark", log, "-m", "jobs.application", **variables) as spark,
    ):

        def written() -> bool:
            assert spark.poll() is None, log.read_text()[-3000:]
            return any((home / "delta" / "user_events").rglob("*.parquet"))

        wait_until(written, 500, "rows in Delta", every_s=1)
        shown = command_lines()
    assert CANARY not in shown
    for secret in (CANARY, ADMIN_PASSWORD):
        assert secret not in log.read_text()
    assert [denied for denied in cluster.denials() if "spark" in denied] == []
