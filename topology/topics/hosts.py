"""The topic of how the hosts do that are fetched from."""

from __future__ import annotations

from schemas.units import HOUR_MS
from topology.model import MEGABYTE, AvroTopic, Topic

SOURCE_HOSTS = AvroTopic(
    "source-hosts",
    "How the hosts do that episodes and transcripts come from, as each worker sees them: "
    "those in trouble or used lately, the newest record of a key counts. A worker that "
    "has said nothing for a minute is gone.",
    key="worker|host",
    schema="source_host",
    partitions=1,
    retention_ms=HOUR_MS,
    segment_bytes=MEGABYTE,
)

TOPICS: tuple[Topic, ...] = (SOURCE_HOSTS,)
