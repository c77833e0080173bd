"""Free ports are free."""

from __future__ import annotations

import socket

from streams.cli.local.ports import free_ports, free_range, is_free
from topology.settings import LOOPBACK


def test_a_listened_port_is_not_free() -> None:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        assert not is_free(server.getsockname()[1])


def test_free_ports_differ() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    assert all(is_free(port) for port in ports)


def test_a_range_avoids_what_is_taken() -> None:
    base = free_range(20)
    with socket.socket() as server:
        server.bind((LOOPBACK, base + 7))
        server.listen()
        other = free_range(20)
    assert base + 7 not in range(other, other + 20)
