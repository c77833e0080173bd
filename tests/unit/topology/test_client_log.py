"""What is told of brokers that do not answer."""

from __future__ import annotations

import logging

import pytest

from streams.cli.local.ports import free_ports
from streams.kafka.clients import producer, reader
from topology.access import admin_client
from topology.client_log import AGAIN_AFTER_S, SPARING, Sparing


def test_that_no_broker_answers_is_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SPARING, "told", {})
    (port,) = free_ports(1)
    servers = f"127.0.0.1:{port}"
    sending, reading, asking = producer(servers), reader(servers), admin_client(servers)
    for _ in range(10):
        sending.poll(0.1)
        reading.poll(0.1)
        asking.poll(0.1)
    reading.close()
    (told,) = [record for record in caplog.records if record.name == "rdkafka"]
    assert told.levelno == logging.WARNING
    assert servers in told.getMessage()
    assert capfd.readouterr().err == ""


def record(text: str, client: str = "rdkafka#consumer-1") -> logging.LogRecord:
    return logging.LogRecord("rdkafka", logging.ERROR, "", 0, "FAIL [%s] %s", (client, text), None)


def test_the_same_is_told_again_after_a_while_and_other_things_at_once() -> None:
    now = [0.0]
    sparing = Sparing(lambda: now[0])
    refused = (
        "[thrd:a:9/bootstrap]: a:9/1: Connect failed: Connection refused (after 3ms in state X)"
    )
    assert sparing.filter(record(refused))
    assert not sparing.filter(record("[thrd:b:9/2]: b:9/2: Disconnected", "rdkafka#producer-2"))
    wrong = "[thrd:a:9/1]: a:9/1: SASL authentication error: denied (after 5ms in state AUTH)"
    assert sparing.filter(one := record(wrong))
    assert one.levelno == logging.ERROR
    assert not sparing.filter(record(wrong.replace("5ms", "70ms"), "rdkafka#producer-2"))
    now[0] = AGAIN_AFTER_S
    assert sparing.filter(record(refused))


def test_what_is_remembered_is_bounded() -> None:
    sparing = Sparing(lambda: 0.0)
    letters = [chr(code) for code in range(0x4E00, 0x4E00 + 1_000)]
    assert all(sparing.filter(record(letter)) for letter in letters)
    assert len(sparing.told) <= 200
