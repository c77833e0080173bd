"""Whether the servers let a process in: asked at its start, told in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.registry import RegistryRefusalError
from streams.kafka.clients import PartitionsError
from streams.kafka.registry import rest_registry
from topology.access import AccessError, mongo_refusal, require_kafka, require_mongo
from topology.settings import Settings


def require_access(settings: Settings, *, mongo: bool = False) -> None:
    """Raise AccessError, or RegistryRefusalError, if a server refuses what the settings show it.

    Servers that ask nobody are not asked; without ``mongo`` MongoDB is not.
    """
    if settings.kafka_security_protocol != "PLAINTEXT":
        require_kafka(settings.kafka_bootstrap_servers)
    if (registry := rest_registry(settings)) is not None:
        registry.require_access()
    if mongo and settings.mongo_asks:
        require_mongo(settings)


@contextmanager
def refusals_as_sentences() -> Iterator[None]:
    """End the process with one sentence, and exit status 1, where a server does not let it in, or
    has other partitions than it was started for."""
    try:
        yield
    except (AccessError, PartitionsError, RegistryRefusalError) as error:
        sys.exit(str(error))
    except Exception as error:
        if (sentence := mongo_refusal(error)) is not None:
            sys.exit(sentence)
        raise
