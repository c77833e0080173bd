"""How the settings of a secured cluster reach each client's library."""

from __future__ import annotations

import ast
import re
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from pymongo.errors import InvalidURI
from pymongo.uri_parser import parse_uri

from streams.cli.local.instance import environment
from tests.paths import ROOT
from topology.access import java_client, kafka_client, split_credentials, ssl_context
from topology.settings import Settings

CANARY = 'canary"\\;=#7'


def secured(**others: Any) -> Settings:
    return Settings(
        kafka_bootstrap_servers="broker.example:9093",
        **{
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_username": 'some"body',
            "kafka_sasl_password": SecretStr(CANARY),
            **others,
        },
    )


def test_brokers_that_ask_nobody_are_shown_nothing() -> None:
    plain = Settings()
    assert kafka_client(plain) == java_client(plain) == {}
    assert ssl_context(plain) is None


def test_librdkafka_gets_its_own_names() -> None:
    assert kafka_client(secured()) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": 'some"body',
        "sasl.password": CANARY,
        "ssl.endpoint.identification.algorithm": "https",
    }


def test_java_reads_back_what_the_login_line_quotes() -> None:
    """The line, taken apart as Java's StreamTokenizer does it, names the user and the password."""
    line = java_client(secured())["sasl.jaas.config"]
    assert line.startswith("org.apache.kafka.common.security.scram.ScramLoginModule required ")
    quoted = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', line))
    read = {name: re.sub(r"\\(.)", r"\1", text) for name, text in quoted.items()}
    assert read == {"username": 'some"body', "password": CANARY}
    assert line.endswith('";')


def test_the_plain_mechanism_has_a_module_of_its_own() -> None:
    line = java_client(secured(kafka_sasl_mechanism="PLAIN"))["sasl.jaas.config"]
    assert "plain.PlainLoginModule" in line


def test_python_checks_certificates_and_host_names() -> None:
    context = ssl_context(secured())
    assert context is not None
    assert context.check_hostname


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"kafka_sasl_username": ""}, "KAFKA_SASL_USERNAME"),
        ({"kafka_bootstrap_servers": ""}, "KAFKA_BOOTSTRAP_SERVERS"),
        ({"kafka_ssl_key_file": "key.pem"}, "KAFKA_SSL_CERTIFICATE_FILE"),
        ({"kafka_ssl_ca_file": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
        ({"kafka_sasl_mechanism": "GSSAPI"}, "kafka_sasl_mechanism"),
    ],
)
def test_what_cannot_work_is_refused_without_showing_a_secret(
    wrong: dict[str, str], named: str
) -> None:
    given = {
        "kafka_bootstrap_servers": "broker.example:9093",
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_username": "somebody",
        "kafka_sasl_password": "canary-7",
        **wrong,
    }
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(given)
    shown = "".join(traceback.format_exception(refused.value))
    assert named in shown
    assert "canary-7" not in shown


def test_a_url_is_taken_apart_from_its_credentials() -> None:
    assert split_credentials("https://a%40b:p%2Fq@host:8081/path") == (
        "https://host:8081/path",
        ("a@b", "p/q"),
    )
    assert split_credentials("http://host:8081") == ("http://host:8081", None)


def test_credentials_end_where_the_host_begins() -> None:
    for password in ("p#q", "p?q", "p/q", "p@q", "p:q", "[p", "p@q/r?s#t"):
        assert split_credentials(f"https://me:{password}@host:8081/path") == (
            "https://host:8081/path",
            ("me", password),
        )


ODD = st.text("#?@/:%$&[]{}=; aé'\"\\", max_size=8)


@given(before=ODD, after=ODD, user=st.sampled_from(["me", "", "me@home", "a/b"]))
def test_no_password_is_ever_printed(before: str, after: str, user: str) -> None:
    password = f"{before}canary-7{after}"
    for said in (f"{user}:{password}@", f"{password}@", f"{user}:{password}"):
        try:
            settings = secured(
                mongodb_uri=SecretStr(f"mongodb://{said}db.example:27017/x?tls=true"),
                schema_registry_url=SecretStr(f"https://{said}@registry.example/y"),
                delta_root=f"s3a://me:{password}@bucket/lake",
            )
        except ValidationError as error:
            assert "%40" in str(error)
            assert "canary" not in str(error)
            continue
        if "@" in said:
            assert "canary" not in str(environment(settings)) + repr(environment(settings))


@given(before=ODD, after=ODD)
def test_mongodbs_client_names_no_password_in_its_errors(before: str, after: str) -> None:
    """Either the settings refuse the address, or the client knows the password as one."""
    uri = f"mongodb://me:{before}canary-7{after}@db.example/x"
    try:
        Settings(mongodb_uri=SecretStr(uri))
    except ValidationError:
        return
    try:
        found = parse_uri(uri)
    except InvalidURI as error:
        assert "canary" not in str(error)
    else:
        assert found["nodelist"] == [("db.example", 27017)]


def test_options_that_may_be_secrets_are_not_printed() -> None:
    plain = "mongodb://a.example,b.example:27018/x?replicaSet=r&tls=true"
    assert environment(Settings(mongodb_uri=SecretStr(plain)))["MONGODB_URI"] == plain
    for option in ("tlsCertificateKeyFilePassword=canary", "authMechanismProperties=X:canary"):
        secret = Settings(mongodb_uri=SecretStr(f"{plain}&{option}"))
        assert "MONGODB_URI" not in environment(secret)


def test_addresses_of_object_stores_without_a_password_are_printed() -> None:
    root = "abfss://container@account.dfs.example/lake"
    assert environment(Settings(delta_root=root))["DELTA_ROOT"] == root


def test_what_is_printed_for_scripts_holds_no_password() -> None:
    settings = secured(
        mongodb_uri=SecretStr("mongodb://me:canary-7@db.example/?tls=true"),
        schema_registry_url=SecretStr("https://me:canary-7@registry.example"),
    )
    shown = str(environment(settings)) + repr(settings)
    assert "canary" not in shown
    assert "broker.example:9093" in shown


ALLOWED = {
    ("topology/access.py", "AdminClient"),  # what everybody else calls
    ("streams/kafka/clients.py", "Consumer"),
    ("streams/kafka/clients.py", "Producer"),
    ("streams/cli/local/broker.py", "AdminClient"),  # the embedded broker, which asks nobody
    ("streams/cli/local/broker.py", "Consumer"),
}


def test_no_client_of_kafka_is_made_past_the_settings() -> None:
    made = {
        (f"{file.relative_to(ROOT)}", node.func.id)
        for folder in ("streams", "topology", "jobs", "dashboard")
        for file in Path(ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"AdminClient", "Consumer", "Producer"}
    }
    assert made == ALLOWED
