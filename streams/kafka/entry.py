"""Whether the servers let a process in: asked at its start, told in one sentence.

Clients are imported where they are needed: a command line that needs none answers without them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topology.settings import Settings


def require_access(settings: Settings, *, mongo: bool = False) -> None:
    """Raise AccessError, or RegistryRefusalError, if a server refuses what the settings show it.

    Servers that ask nobody are not asked; without ``mongo`` MongoDB is not.
    """
    from streams.kafka.registry import rest_registry
    from topology.access import require_kafka, require_mongo

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
    except Exception as error:
        if (sentence := _refusal(error)) is not None:
            sys.exit(sentence)
        raise


def _refusal(error: Exception) -> str | None:
    """What to say of an error, if it is one of a server that did not let us in."""
    from schemas.registry import RegistryRefusalError
    from streams.kafka.clients import PartitionsError
    from topology.access import AccessError, mongo_refusal

    if isinstance(error, AccessError | PartitionsError | RegistryRefusalError):
        return str(error)
    return mongo_refusal(error)
