"""The processes derived from the graph."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streams.cli.local.programs import (
    BROKER,
    DEMO_INDEX,
    MONGO,
    derive_programs,
    embedded_services,
    metrics_ports,
    ports_needed,
    stop_order,
    web_ports,
    write_targets,
)
from topology.graph import build_graph
from topology.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "MONGODB_URI", "PODSTREAM_PORT_BASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PODSTREAM_HOME", str(tmp_path))
    return Settings(_env_file=None)


GRAPH = build_graph(4)


def test_every_stage_runs_in_exactly_one_program(settings: Settings) -> None:
    programs = {program.name: program for program in derive_programs(settings, GRAPH, demo=True)}
    assert {stage.worker for stage in GRAPH.stages.values()} == programs.keys() - {
        BROKER,
        MONGO,
        DEMO_INDEX,
    }
    chosen = [
        name
        for program in programs.values()
        if "PODSTREAM_STAGES" in program.environment
        for name in program.environment["PODSTREAM_STAGES"].split(",")
    ]
    faust = [stage.name for stage in GRAPH.stages.values() if stage.runner == "faust"]
    assert sorted(chosen) == sorted(faust)


def test_the_demo_s_own_programs_come_with_the_demo_only(settings: Settings) -> None:
    plain = {program.name for program in derive_programs(settings, GRAPH, demo=False)}
    demo = {program.name for program in derive_programs(settings, GRAPH, demo=True)}
    assert demo - plain == {DEMO_INDEX, "simulate_listeners"}


def test_the_demo_index_misbehaves_only_when_told_to(settings: Settings) -> None:
    def arguments(chosen: Settings) -> tuple[str, ...]:
        programs = derive_programs(chosen, GRAPH, demo=True)
        return next(program.argv for program in programs if program.name == DEMO_INDEX)

    assert "--misbehave" not in arguments(settings)
    told = settings.model_copy(update={"demo_misbehave": "7:0.3"})
    assert arguments(told)[-2:] == ("--misbehave", "7:0.3")


@pytest.mark.parametrize("text", ["yes", "7:2", "7:", "--seed"])
def test_what_is_no_plan_is_refused_as_a_setting(text: str) -> None:
    with pytest.raises(ValueError, match="demo_misbehave"):
        Settings(demo_misbehave=text)


def test_addresses_of_others_are_not_served_by_us(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert embedded_services(settings) == [BROKER, MONGO]
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")
    elsewhere = Settings(_env_file=None)
    assert embedded_services(elsewhere) == [MONGO]
    assert BROKER not in {program.name for program in derive_programs(elsewhere, GRAPH, True)}
    assert elsewhere.port("kafka") not in ports_needed(elsewhere, GRAPH, True)


def test_no_two_programs_share_a_port(settings: Settings) -> None:
    ports = web_ports(settings, GRAPH, demo=True)
    assert len(set(ports.values())) == len(ports)
    metrics = metrics_ports(settings, GRAPH, demo=True)
    # beside those with a page or metrics: the broker's two and MongoDB's
    assert len(ports_needed(settings, GRAPH, demo=True)) == len(ports) + len(metrics) + 3


def test_every_program_of_ours_answers_at_the_port_that_prometheus_is_told(
    settings: Settings,
) -> None:
    chosen = settings.model_copy(update={"exporter": True})
    found = json.loads(write_targets(chosen, GRAPH, demo=True).read_text())
    told = {one["labels"]["process"]: one["targets"] for one in found}
    programs = derive_programs(chosen, GRAPH, demo=True)
    given = {p.name: p.environment.get("METRICS_PORT") for p in programs}
    assert told == {name: [f"127.0.0.1:{port}"] for name, port in given.items() if port}
    assert given.keys() - told.keys() == {BROKER, MONGO, DEMO_INDEX, "dashboard"}


def test_everything_binds_to_loopback(settings: Settings) -> None:
    for program in derive_programs(settings, GRAPH, demo=True):
        assert "0.0.0.0" not in " ".join(program.argv)  # noqa: S104
        for option in ("--web-host", "--server.address"):
            if option in program.argv:
                assert program.argv[program.argv.index(option) + 1] == "127.0.0.1"


def test_the_log_stops_last_and_its_readers_first(settings: Settings) -> None:
    names = [program.name for program in derive_programs(settings, GRAPH, demo=True)]
    tiers = stop_order(names, GRAPH)
    assert tiers[-1] == sorted([BROKER, MONGO])
    assert tiers[-2] == ["batch_events", DEMO_INDEX]
    assert {"spark", "simulate_listeners"} <= set(tiers[0])
    assert sorted(name for tier in tiers for name in tier) == sorted(names)
