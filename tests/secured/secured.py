"""A broker that lets in only whom it knows: TLS, SCRAM-SHA-512, and access control lists.

Its certificates are made for the test, its users are those of the graph, and whatever it denies is
in its log.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import trustme
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from jobs.spark_jars import classpath
from streams.cli.local.broker import STOP_TIMEOUT_S, broker_properties
from streams.cli.local.child import running_child
from streams.cli.local.ports import free_ports
from tests.paths import ROOT
from tests.waiting import wait_until
from topology.java import require_java
from topology.settings import LOOPBACK

ADMIN, ADMIN_PASSWORD = "admin", "admins-own-words"
CANARY = "canary-0f3b"
"""In every password of a stage: where it shows, a secret has come out."""

_LOGGING = """<Configuration><Appenders><Console name="out" target="SYSTEM_OUT">
<PatternLayout pattern="%d{ISO8601} %-5p %c{1} %m%n"/></Console></Appenders><Loggers>
<Logger name="kafka.authorizer.logger" level="INFO"/>
<Root level="WARN"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""


def password_of(user: str) -> str:
    """A password with what JAAS, shells and properties would trip over."""
    return f'{CANARY} {user}";\\$#='


@dataclass(frozen=True)
class Cluster:
    """A running broker: its addresses, its files, and who may make users."""

    home: Path
    port: int
    mutual_port: int
    ca_file: Path
    admin: AdminClient

    @property
    def address(self) -> str:
        """Where clients with a password are let in."""
        return f"{LOOPBACK}:{self.port}"

    def environment(self, user: str, **others: str) -> dict[str, str]:
        """The variables of a process of this user."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.address,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD": password_of(user),
            "KAFKA_SSL_CA_FILE": str(self.ca_file),
            "EVENT_PARTITIONS": "2",
            "PODSTREAM_HOME": str(self.home / "platform"),
            **others,
        }

    def denials(self) -> set[str]:
        """What the broker has denied so far, each kind once: who, what, on what."""
        log = (self.home / "logs" / "broker.log").read_text()
        denied = re.findall(r"Principal = (\S+) is Denied (.*?) from host .* on (resource.*)", log)
        return {" ".join(words) for words in denied}


def certificates(folder: Path, ca: trustme.CA, user: str = "") -> tuple[Path, Path]:
    """Files of a certificate for this machine's loopback, or for a user, and of its key."""
    issued = ca.issue_cert(LOOPBACK, common_name=user or None, key_type=trustme.KeyType.RSA)
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    certificate_file, key_file = folder / f"{user}cert.pem", folder / f"{user}key.pem"
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    certificate_file.write_bytes(chain)
    # Java reads PKCS#8 alone
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_file, key_file


@contextmanager
def secured_broker(home: Path, ca: trustme.CA) -> Iterator[Cluster]:
    """The broker for as long as the block lasts; `ADMIN` may do all, nobody else anything yet."""
    folder = home / "kafka"
    folder.mkdir(parents=True)
    ca_file, store = folder / "ca.pem", folder / "broker.pem"
    ca.cert_pem.write_to_path(ca_file)
    certificate, key = certificates(folder, ca)
    store.write_bytes(key.read_bytes() + certificate.read_bytes())
    port, mutual_port, controller_port = free_ports(3)
    login = f'username="{ADMIN}" password="{ADMIN_PASSWORD}"'
    listeners = f"CLIENTS://{LOOPBACK}:{port},MUTUAL://{LOOPBACK}:{mutual_port}"
    config = broker_properties(home, port, controller_port) | {
        "listeners": f"{listeners},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "CLIENTS:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENTS",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        "listener.name.clients.scram-sha-512.sasl.jaas.config": (
            f"org.apache.kafka.common.security.scram.ScramLoginModule required {login};"
        ),
        "listener.name.mutual.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(ca_file),
        "ssl.principal.mapping.rules": r"RULE:^.*CN=([^,]+).*$/$1/",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # the controller's own listener, on the loopback interface, asks nobody
        "super.users": f"User:{ADMIN};User:ANONYMOUS",
    }
    properties, logging = folder / "server.properties", folder / "log4j2.xml"
    lines = (f"{name}={value}\n".replace("\\", "\\\\") for name, value in config.items())
    properties.write_text("".join(lines))
    logging.write_text(_LOGGING)
    java = [require_java(), "-Xmx512m", f"-Dlog4j2.configurationFile={logging}"]
    java += ["-cp", classpath("kafka")]
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    scram = f"SCRAM-SHA-512=[name={ADMIN},password={ADMIN_PASSWORD}]"
    format_ = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}"]
    subprocess.run(
        [*format_, "-c", str(properties), "--add-scram", scram], check=True, capture_output=True
    )
    log = home / "logs" / "broker.log"
    with running_child([*java, "kafka.Kafka", str(properties)], {}, log, STOP_TIMEOUT_S) as server:
        admin = AdminClient(
            {
                "bootstrap.servers": f"{LOOPBACK}:{port}",
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": ADMIN,
                "sasl.password": ADMIN_PASSWORD,
                "ssl.ca.location": str(ca_file),
                "log_level": 0,
            }
        )

        def up() -> bool:
            assert server.poll() is None, log.read_text()[-2000:]
            try:
                return bool(admin.list_topics(timeout=2).brokers)
            except KafkaException:
                return False

        wait_until(up, 120, "the secured broker")
        yield Cluster(home, port, mutual_port, ca_file, admin)


def make_users(cluster: Cluster, users: Iterable[str]) -> None:
    """Users with the passwords of `password_of`."""
    made: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(
            user,
            ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096),
            password_of(user).encode(),
        )
        for user in users
    ]
    for future in cluster.admin.alter_user_scram_credentials(made).values():
        future.result(30)


def allow(cluster: Cluster, lines: Iterable[str]) -> set[str]:
    """Do what `kafka-acls` commands say; give the users that they name."""
    parser = argparse.ArgumentParser(exit_on_error=True)
    for name in ("--bootstrap-server", "--command-config", "--allow-principal"):
        parser.add_argument(name, required=True)
    parser.add_argument("--resource-pattern-type", default="literal")
    parser.add_argument("--add", action="store_true", required=True)
    for name in ("--operation", "--topic", "--group"):
        parser.add_argument(name, action="append", default=[])
    bindings, users = [], set[str]()
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "kafka-acls"
        asked = parser.parse_args(words)
        users.add(asked.allow_principal.removeprefix("User:"))
        pattern = ResourcePatternType[asked.resource_pattern_type.upper()]
        places = [(ResourceType.TOPIC, name) for name in asked.topic]
        places += [(ResourceType.GROUP, name) for name in asked.group]
        for kind, name in places:
            for operation in asked.operation:
                spelled = re.sub(r"(?<!^)(?=[A-Z])", "_", operation).upper()
                bindings.append(
                    AclBinding(
                        kind, name, pattern, asked.allow_principal, "*",
                        AclOperation[spelled], AclPermissionType.ALLOW,
                    )
                )  # fmt: skip
    for future in cluster.admin.create_acls(bindings).values():
        future.result(30)
    return users


def process(
    environment: Mapping[str, str], *words: str, output: IO[bytes] | int
) -> subprocess.Popen[Any]:
    """A process of the project's Python with these variables, its words and errors in one place."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
    return subprocess.Popen(
        [sys.executable, *words],
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
