"""There is no container engine where the tests run: what can be checked without one is, here."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from streams.api.access import refusal
from streams.cli.commands.graph import module_exists
from streams.cli.local.broker import broker_properties
from streams.demo.demo_index import DEMO_KEY, DEMO_SECRET
from tests.paths import ROOT
from topology.graph import build_graph, workers
from topology.settings import Settings

FOLDER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: s for name, s in SERVICES.items() if s["image"].startswith("podstream")}
GRAPH = build_graph(4)
GROUPS = workers(GRAPH.stages.values())
VARIABLES = {(field.alias or name).upper() for name, field in Settings.model_fields.items()}


@pytest.mark.parametrize("worker", GROUPS)
def test_every_worker_group_has_a_service_that_runs_its_stages(worker: str) -> None:
    service, stages = SERVICES[worker], GROUPS[worker]
    if stages[0].runner == "faust":
        names = service["environment"]["PODSTREAM_STAGES"].split(",")
        assert names == [stage.name for stage in stages]
        assert "-A streams.app" in service["command"]
    elif stages[0].runner == "spark":
        assert service["command"] == "python -m jobs.application"
    else:
        assert stages[0].entry_point in service["command"]
    assert ("demo" in service.get("profiles", [])) == all(stage.demo_only for stage in stages)


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting(name: str) -> None:
    assert set(OURS[name]["environment"]) <= VARIABLES | {"SPARK_DAEMON_JAVA_OPTS"}


def test_the_demo_file_sets_settings_that_the_services_pass_on() -> None:
    lines = [line for line in (FOLDER / "demo.env").read_text().splitlines() if line[:1] != "#"]
    values = dict(line.split("=", 1) for line in lines)
    assert values.keys() <= COMPOSE["x-podstream"]["environment"].keys() & VARIABLES
    assert (values["PODCASTINDEX_KEY"], values["PODCASTINDEX_SECRET"]) == (DEMO_KEY, DEMO_SECRET)
    port = re.search(r"--port (\d+)", SERVICES["demo_index"]["command"])
    assert port
    assert f":{port[1]}/" in values["PODCASTINDEX_URL"]
    assert values["FETCH_ALLOW_HOSTS"].endswith(port[1])


@pytest.mark.parametrize("name", OURS)
def test_every_module_that_is_started_exists(name: str) -> None:
    words = shlex.split(OURS[name]["command"])
    if words[:2] == ["python", "-m"]:
        assert module_exists(words[2])


def test_every_dependency_is_a_service() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", {})) <= SERVICES.keys(), name


def test_the_broker_is_set_as_the_embedded_one() -> None:
    """The same events must be welcome in both: sizes, retention and times are alike."""
    embedded = broker_properties(Path("home"), 1, 2)
    shared = {
        key: value
        for key, value in embedded.items()
        if key.startswith(("auto.", "message.", "offsets.retention", "log.retention", "replica."))
        or key == "log.message.timestamp.after.max.ms"
    }
    assert len(shared) == 7
    given = SERVICES["kafka"]["environment"]
    assert {key: given[f"KAFKA_{key.replace('.', '_').upper()}"] for key in shared} == shared


def test_only_what_people_look_at_is_published_and_only_here() -> None:
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
    assert sorted(published) == ["api", "dashboard", "grafana", "prometheus"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_prometheus_scrapes_every_service_that_answers() -> None:
    config = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yaml").read_text())
    ((scraped,),) = (job["dns_sd_configs"] for job in config["scrape_configs"])
    port = COMPOSE["x-podstream"]["environment"]["METRICS_PORT"]
    ready = {n for n, s in OURS.items() if f":{port}/ready" in str(s.get("healthcheck"))}
    assert (sorted(scraped["names"]), str(scraped["port"])) == (sorted(ready), port)
    unwatched = {"dashboard", "demo_index", "simulate_listeners"}
    assert ready == (GROUPS.keys() | {"exporter", "verify"}) - unwatched
    assert all((FOLDER / "prometheus" / name).is_file() for name in config["rule_files"])


def test_the_api_of_the_containers_wants_a_token() -> None:
    given = SERVICES["api"]["environment"]
    settings = Settings(api_host=given["API_HOST"], api_token=SecretStr(""))
    assert "API_TOKEN" in refusal(settings)
    assert given["API_TOKEN"] == "${API_TOKEN:-}"


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_rights_to_lose(name: str) -> None:
    assert OURS[name]["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in OURS[name]["security_opt"]


def test_the_image_is_not_root_and_copies_what_is_there() -> None:
    lines = (FOLDER / "Dockerfile.podstream").read_text().splitlines()
    users = [line for line in lines if line.startswith("USER")]
    assert users == ["USER podstream"]
    kept = (FOLDER / "Dockerfile.podstream.dockerignore").read_text().split()
    for path in (word[1:] for word in kept if word.startswith("!")):
        assert (FOLDER.parent / path).exists(), path


def test_data_outlives_the_containers() -> None:
    for name in ("kafka", "mongo"):
        (volume,) = SERVICES[name]["volumes"]
        assert volume.split(":")[0] in COMPOSE["volumes"]
