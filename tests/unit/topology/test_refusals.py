"""Servers whose certificates, or whose answers, keep us out: told in one sentence, soon."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from pydantic import SecretStr

from schemas.registry import RegistryRefusalError
from streams.kafka.registry import open_registry, rest_registry
from topology.access import AccessError, require_kafka, require_mongo
from topology.settings import LOOPBACK, Settings, get_settings

CANARY = "canary-1c5"


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(ca: trustme.CA, tmp_path: Path) -> str:
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


def server_context(ca: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(name).configure_cert(context)
    return context


@contextmanager
def handshakes(context: ssl.SSLContext) -> Iterator[int]:
    """A server that shows its certificate to whoever comes, and says no more; gives its port."""
    with socket.create_server((LOOPBACK, 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):  # closed at the end
                while True:
                    came, _ = listening.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(came, True) as secured:
                        secured.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.fixture
def secured(
    podstream_home: Path, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.MonkeyPatch]:
    variables = {
        "KAFKA_BOOTSTRAP_SERVERS": "unused:1",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_USERNAME": "somebody",
        "KAFKA_SASL_PASSWORD": CANARY,
        "KAFKA_SSL_CA_FILE": ca_file,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield monkeypatch
    require_kafka.cache_clear()


@pytest.mark.usefixtures("secured")
def test_a_broker_with_a_strangers_certificate_is_not_spoken_to() -> None:
    with handshakes(server_context(trustme.CA(), LOOPBACK)) as port:
        began = time.monotonic()
        with pytest.raises(AccessError) as refused:
            require_kafka(f"{LOOPBACK}:{port}")
    assert time.monotonic() - began < 15
    said = str(refused.value)
    assert said.startswith(f"No TLS connection to Kafka at {LOOPBACK}:{port}: ")
    assert "certificate" in said
    assert "\n" not in said
    assert CANARY not in said


@pytest.mark.usefixtures("secured")
def test_a_broker_that_is_not_the_one_its_certificate_names_is_not_spoken_to(
    ca: trustme.CA,
) -> None:
    with handshakes(server_context(ca, "another.example")) as port, pytest.raises(AccessError):
        require_kafka(f"{LOOPBACK}:{port}")


def test_a_key_that_cannot_be_read_is_told(secured: pytest.MonkeyPatch, ca_file: str) -> None:
    secured.setenv("KAFKA_SSL_CERTIFICATE_FILE", ca_file)
    secured.setenv("KAFKA_SSL_KEY_FILE", ca_file)  # a certificate is no key
    get_settings.cache_clear()
    with pytest.raises(AccessError, match="KAFKA_SSL_"):
        require_kafka(f"{LOOPBACK}:1")


def test_a_mongodb_with_a_strangers_certificate_is_not_spoken_to(ca_file: str) -> None:
    with handshakes(server_context(trustme.CA(), LOOPBACK)) as port:
        uri = f"mongodb://me:{CANARY}@{LOOPBACK}:{port}/?tls=true&tlsCAFile={ca_file}"
        settings = Settings(mongodb_uri=SecretStr(uri))
        assert settings.mongo_asks
        with pytest.raises(AccessError, match="No TLS connection to MongoDB") as refused:
            require_mongo(settings)
    assert CANARY not in str(refused.value)


class Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        wanted = base64.b64encode(f"me:{CANARY}/@".encode()).decode()
        known = self.headers["Authorization"] == f"Basic {wanted}"
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(json.dumps([]).encode())

    def log_message(self, *_: object) -> None:
        """Nothing: the output of the tests is not its log."""


@contextmanager
def registry_server(context: ssl.SSLContext) -> Iterator[str]:
    """A registry behind TLS that knows one user; gives its host and port."""
    server = ThreadingHTTPServer((LOOPBACK, 0), Registry)
    server.socket = context.wrap_socket(server.socket, True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"{LOOPBACK}:{server.server_port}"
    server.shutdown()
    server.server_close()


def asking(address: str, password: str, ca_file: str) -> Settings:
    url = SecretStr(f"https://me:{password}@{address}")
    return Settings(schema_registry_url=url, kafka_ssl_ca_file=ca_file)


def test_the_registry_is_shown_user_and_password_of_its_url(ca: trustme.CA, ca_file: str) -> None:
    with registry_server(server_context(ca, LOOPBACK)) as address:
        assert open_registry(asking(address, f"{CANARY}%2F%40", ca_file)).texts() == {}
        wrong = rest_registry(asking(address, f"{CANARY}-wrong", ca_file))
        assert wrong is not None
        with pytest.raises(RegistryRefusalError, match="SCHEMA_REGISTRY_URL") as refused:
            wrong.require_access()
    assert address in str(refused.value)
    assert CANARY not in str(refused.value)


def test_a_registry_with_a_strangers_certificate_is_not_spoken_to(ca_file: str) -> None:
    with registry_server(server_context(trustme.CA(), LOOPBACK)) as address:
        registry = rest_registry(asking(address, CANARY, ca_file))
        assert registry is not None
        with pytest.raises(RegistryRefusalError, match="No TLS connection") as refused:
            registry.require_access()
    assert CANARY not in str(refused.value)
