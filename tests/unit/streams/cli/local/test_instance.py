"""Settings of an instance, what is written for its processes, what is said when it cannot run."""

from __future__ import annotations

import io
import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr
from rich.console import Console

from streams.cli.local.instance import (
    InstanceError,
    check_running,
    demo_settings,
    environment,
    settings_of_home,
    start,
    stop,
    variables,
    write_instance_file,
)
from topology.settings import LOOPBACK, Settings, get_settings, instance_file


@pytest.fixture
def settings(podstream_home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, field in Settings.model_fields.items():
        spelled = (field.alias or name).upper()
        if spelled != "PODSTREAM_HOME":
            monkeypatch.delenv(spelled, raising=False)
    return Settings(_env_file=None)


def _quiet() -> Console:
    return Console(file=io.StringIO())


def test_what_is_written_is_read_back(settings: Settings) -> None:
    odd = settings.model_copy(
        update={
            "podcastindex_secret": SecretStr('it\'s $HOME \\ # "odd"'),
            "rss_feeds": ("https://a.example/feed", "https://b.example/feed?x=1"),
            "als_interval_s": 7.5,
        }
    )
    path = write_instance_file(odd)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert get_settings() == odd


@given(password=st.text(st.characters(exclude_categories=["Cc", "Cs"])))
@example("a${HOME}b")
@example("$${HOME}}${:-x}${")
@example("\\'${HOME}\\")
def test_any_password_is_read_back(password: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(_env_file=None, podstream_home=Path(home))
        secret = settings.model_copy(update={"kafka_sasl_password": SecretStr(password)})
        read = Settings(_env_file=write_instance_file(secret))
        assert read.kafka_sasl_password.get_secret_value() == password


def test_the_file_is_private_also_when_an_open_one_was_there(settings: Settings) -> None:
    path = instance_file(settings.podstream_home)
    path.write_text("OLD=1\n")
    path.chmod(0o644)
    write_instance_file(settings)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "OLD" not in path.read_text()


def test_an_instance_that_does_not_run_leaves_no_settings_behind(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_instance_file(settings.model_copy(update={"podstream_port_base": 23_450}))
    assert settings_of_home().podstream_port_base == settings.podstream_port_base
    monkeypatch.setenv("PODSTREAM_PORT_BASE", "1024")  # so that the change is undone
    assert settings_of_home("24000").podstream_port_base == 24_000
    auto = settings_of_home("auto")
    assert auto.kafka_bootstrap_servers == f"{LOOPBACK}:{auto.podstream_port_base}"
    assert stop(settings, _quiet()) is False
    assert not instance_file(settings.podstream_home).exists()


def test_the_demo_looks_at_its_own_index_only(settings: Settings) -> None:
    demo = demo_settings(settings)
    assert demo.podcastindex_url == settings.demo_index_url
    assert demo.fetch_allow_hosts == (f"{LOOPBACK}:{settings.port('demo_index')}",)
    assert demo.podcastindex_secret.get_secret_value()


def test_env_tells_addresses_and_no_keys(settings: Settings) -> None:
    secret = settings.model_copy(update={"podcastindex_secret": SecretStr("hush")})
    shown = environment(secret)
    assert {"KAFKA_BOOTSTRAP_SERVERS", "MONGODB_URI", "DELTA_ROOT", "DASHBOARD_URL"} <= set(shown)
    assert "hush" not in " ".join(shown.values())
    assert "hush" in variables(secret).values()


def test_taken_ports_are_named(settings: Settings) -> None:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        port = server.getsockname()[1]
        os.environ["PODSTREAM_PORT_BASE"] = str(port)
        try:
            taken = Settings(_env_file=None)
        finally:
            del os.environ["PODSTREAM_PORT_BASE"]
        with pytest.raises(InstanceError, match=rf"{port} \(broker\).*--ports auto"):
            start(taken, False, _quiet())


def test_a_home_without_an_instance_is_said_to_be_so(settings: Settings) -> None:
    with pytest.raises(InstanceError, match="Nothing runs in"):
        check_running(settings)


def test_an_instance_is_started_as_the_first_version(settings: Settings) -> None:
    second = settings.model_copy(update={"podstream_version": "v2"})
    with pytest.raises(InstanceError, match="PODSTREAM_VERSION is set"):
        start(second, False, Console(file=io.StringIO()))
    assert "PODSTREAM_VERSION" not in variables(second)
