"""How clients prove who they are: one block of settings, in the words of each client's library.

Every client of Kafka is made of `kafka_client`, Spark's of `java_client`, Faust's of `ssl_context`
and the settings themselves; MongoDB's URI carries its own options. Credentials are a process's own:
it has them from its environment or from the instance's file, and they are handed to libraries in
memory, never on a command line.
"""

from __future__ import annotations

import re
import ssl
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from topology.client_log import client_log
from topology.settings import Settings, get_settings

ANSWER_S = 10.0
"""Longest that a server is asked whether it lets us in, in seconds."""

_REFUSED = {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED}


_MONGO_AUTHENTICATION_FAILED = 18
_MONGO_ANSWER_MS = 5_000


_HARMLESS = {
    *("appname", "authsource", "directconnection", "readpreference", "replicaset", "retryreads"),
    *("retrywrites", "ssl", "tls", "tlscafile", "w"),
}
"""Options of a MongoDB URI that hold no secret."""


class AccessError(RuntimeError):
    """A server does not let this process in; the message is one sentence without any secret."""


def kafka_client(settings: Settings) -> dict[str, Any]:
    """What librdkafka needs to be let in; nothing for brokers that ask nobody."""
    config: dict[str, Any] = {}
    if settings.kafka_security_protocol != "PLAINTEXT":
        config["security.protocol"] = settings.kafka_security_protocol
    if settings.kafka_uses_sasl:
        config |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_sasl_username,
            "sasl.password": settings.kafka_sasl_password.get_secret_value(),
        }
    if settings.kafka_uses_tls:
        config["ssl.endpoint.identification.algorithm"] = "https"
        for name, value in (
            ("ssl.ca.location", settings.kafka_ssl_ca_file),
            ("ssl.certificate.location", settings.kafka_ssl_certificate_file),
            ("ssl.key.location", settings.kafka_ssl_key_file),
            ("ssl.key.password", settings.kafka_ssl_key_password.get_secret_value()),
        ):
            if value:
                config[name] = value
    return config


def java_client(settings: Settings) -> dict[str, str]:
    """What Kafka's Java client needs to be let in.

    Certificates travel as their text, so that executors elsewhere need no files. Java reads keys in
    PKCS#8 only (``BEGIN PRIVATE KEY`` or ``BEGIN ENCRYPTED PRIVATE KEY``).
    """
    config: dict[str, str] = {}
    if settings.kafka_security_protocol != "PLAINTEXT":
        config["security.protocol"] = settings.kafka_security_protocol
    if settings.kafka_uses_sasl:
        config["sasl.mechanism"] = settings.kafka_sasl_mechanism
        config["sasl.jaas.config"] = jaas_line(settings)
    if settings.kafka_uses_tls:
        config["ssl.endpoint.identification.algorithm"] = "https"
        if settings.kafka_ssl_ca_file:
            config["ssl.truststore.type"] = "PEM"
            config["ssl.truststore.certificates"] = _text(settings.kafka_ssl_ca_file)
        if settings.kafka_ssl_certificate_file and settings.kafka_ssl_key_file:
            config["ssl.keystore.type"] = "PEM"
            config["ssl.keystore.certificate.chain"] = _text(settings.kafka_ssl_certificate_file)
            config["ssl.keystore.key"] = _text(settings.kafka_ssl_key_file)
            if password := settings.kafka_ssl_key_password.get_secret_value():
                config["ssl.key.password"] = password
    return config


def jaas_line(settings: Settings) -> str:
    """The login of Java's SASL, with user and password quoted as JAAS reads them."""
    plain = settings.kafka_sasl_mechanism == "PLAIN"
    module = "plain.PlainLoginModule" if plain else "scram.ScramLoginModule"
    user = _jaas_quoted(settings.kafka_sasl_username)
    password = _jaas_quoted(settings.kafka_sasl_password.get_secret_value())
    return (
        f"org.apache.kafka.common.security.{module} required username={user} password={password};"
    )


def _jaas_quoted(value: str) -> str:
    # the parser (Java's StreamTokenizer) knows these escapes, and ends a string at a line's end
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"}
    return '"' + "".join(escapes.get(letter, letter) for letter in value) + '"'


def _text(path: str) -> str:
    return Path(path).read_text(encoding="ascii")


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """Python's side of the same: certificates and host names are verified; None without TLS."""
    if not settings.kafka_uses_tls:
        return None
    context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file or None)
    if settings.kafka_ssl_certificate_file:
        context.load_cert_chain(
            settings.kafka_ssl_certificate_file,
            settings.kafka_ssl_key_file,
            settings.kafka_ssl_key_password.get_secret_value() or None,
        )
    return context


# -- Kafka -----------------------------------------------------------------------------------


def kafka_config(bootstrap_servers: str) -> dict[str, Any]:
    """What every confluent-kafka client of this process begins with.

    AccessError if the brokers do not let the process in: the first client asks, for all.
    """
    config = {"bootstrap.servers": bootstrap_servers, **kafka_client(get_settings())}
    if len(config) > 1:
        require_kafka(bootstrap_servers)
    return {**config, "logger": client_log}


def admin_client(bootstrap_servers: str, **overrides: Any) -> AdminClient:
    """Kafka's administration, with this process's credentials. Raises AccessError."""
    return AdminClient({**kafka_config(bootstrap_servers), **overrides})


@lru_cache(maxsize=8)
def require_kafka(bootstrap_servers: str) -> None:
    """Raise AccessError, with a sentence, if the brokers refuse this process.

    Brokers that give no answer are left to whoever waits for them.
    """
    settings = get_settings()
    refusals: list[KafkaError] = []

    def note(error: KafkaError) -> None:
        if error.code() in _REFUSED:
            refusals.append(error)

    asking: dict[str, Any] = {"bootstrap.servers": bootstrap_servers, **kafka_client(settings)}
    try:
        admin = AdminClient(asking | {"log_level": 0, "error_cb": note})
    except KafkaException as error:  # a file that cannot be read, or a wrong password for its key
        raise AccessError(
            f"Kafka's client refuses the KAFKA_SSL_… settings: {error.args[0].str()}."
        ) from None
    for _ in range(int(ANSWER_S)):
        try:
            admin.list_topics(timeout=1.0)
            return
        except KafkaException:
            admin.poll(0)
        if refusals:
            raise AccessError(_refusal(bootstrap_servers, settings, refusals[0]))


def _refusal(bootstrap_servers: str, settings: Settings, error: KafkaError) -> str:
    if error.code() == KafkaError._SSL:
        reason = " ".join(error.str().split())
        return (
            f"No TLS connection to Kafka at {bootstrap_servers}: {reason}. "
            "See KAFKA_SSL_CA_FILE, KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE."
        )
    return (
        f"Kafka at {bootstrap_servers} refuses user {settings.kafka_sasl_username!r} "
        f"({settings.kafka_security_protocol}, {settings.kafka_sasl_mechanism}): the user, the "
        "password or the mechanism is wrong. See KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and "
        "KAFKA_SASL_MECHANISM."
    )


# -- MongoDB ---------------------------------------------------------------------------------


def require_mongo(settings: Settings) -> None:
    """Raise AccessError if MongoDB refuses the user or the certificates of its URI.

    A server that gives no answer is left to whoever waits for it.
    """
    from pymongo import MongoClient
    from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

    uri = settings.mongodb_uri.get_secret_value()
    try:
        with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=_MONGO_ANSWER_MS) as asked:
            asked[settings.mongodb_database].command("ping")
    except OperationFailure as error:
        if (sentence := mongo_refusal(error)) is not None:
            raise AccessError(sentence) from None
    except ServerSelectionTimeoutError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            reason = "its certificate is not one that tlsCAFile of MONGODB_URI vouches for"
            raise AccessError(f"No TLS connection to MongoDB: {reason}.") from None


def mongo_refusal(error: Exception) -> str | None:
    """What an error of MongoDB says if it is that we may not come in; None for any other."""
    if getattr(error, "code", None) != _MONGO_AUTHENTICATION_FAILED:
        return None
    return "MongoDB refuses the user: name or password in MONGODB_URI is wrong."


# -- addresses that carry a password ---------------------------------------------------------


def split_credentials(url: str) -> tuple[str, tuple[str, str] | None]:
    """A URL without its user and password, and these two; None where it has none.

    They end at the last @, whatever stands unescaped in a password: an @ behind the host is %40.
    """
    scheme, _, rest = url.partition("://")
    said, at, address = rest.rpartition("@")
    if not at:
        return url, None
    user, _, password = said.partition(":")
    return f"{scheme}://{address}", (unquote(user), unquote(password))


def is_public(address: str) -> bool:
    """Whether an address that may hold secrets tells nothing but where something is: no user, no
    password, no option that is not known to be harmless."""
    options = re.split("[&;]", address.partition("?")[2])
    names = {option.partition("=")[0].lower() for option in options if option}
    return "@" not in address and names <= _HARMLESS
