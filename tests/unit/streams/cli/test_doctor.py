"""The doctor names what is wrong and says what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli.doctor import check_java, check_ports, examine
from streams.cli.main import build_app
from topology.settings import LOOPBACK, Settings


@pytest.fixture
def free_base(podstream_home: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    from streams.cli.local.ports import free_range

    base = free_range(40)
    monkeypatch.setenv("PODSTREAM_PORT_BASE", str(base))
    return base


def test_a_healthy_machine_needs_nothing(free_base: int) -> None:
    findings = examine(Settings(_env_file=None))
    assert not [finding for finding in findings if finding.level == "error"]
    assert CliRunner().invoke(build_app(), ["doctor"]).exit_code == 0


def test_missing_java_and_taken_ports_end_in_exit_code_1(
    free_base: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = Settings(_env_file=None)
    with socket.socket() as server:
        server.bind((LOOPBACK, free_base))
        server.listen()
        finding = check_ports(settings)
        assert finding.level == "error"
        assert str(free_base) in finding.found
        java = check_java(settings)
        assert java.level == "error"
        assert "Install" in java.advice
        result = CliRunner().invoke(build_app(), ["doctor"])
    assert result.exit_code == 1
    assert "✗ Java" in result.output
