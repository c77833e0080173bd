"""Topics that operators and the schema registry write."""

from __future__ import annotations

from topology.model import MEGABYTE, AvroTopic, RawTopic, Topic

TABLE_GENERATIONS = AvroTopic(
    "table-generations",
    "Which generation of the live tables is the current one.",
    key="table",
    schema="table_generation",
    partitions=1,
    cleanup="compact",
)

TABLE_VERSIONS = AvroTopic(
    "table-versions",
    "Every version that was ever made beside the first, and the code that it is of.",
    key="version",
    schema="table_version",
    partitions=1,
    cleanup="compact",
)

SERVED_VERSION = AvroTopic(
    "served-version",
    "The pointer that readers follow: which version of the tables is served.",
    key="live",
    schema="served_version",
    partitions=1,
    cleanup="compact",
)

SERVED_GENERATION = AvroTopic(
    "served-generation",
    "The generation that lists are to be made with, where somebody has chosen one.",
    key="model",
    schema="served_generation",
    partitions=1,
    cleanup="compact",
)

REDRIVE_PROGRESS = AvroTopic(
    "redrive-progress",
    "Which dead letters `podstream dlq redrive` has sent back; the newest record "
    "of a topic counts.",
    key="topic",
    schema="redrive_progress",
    partitions=1,
    cleanup="compact",
    max_message_bytes=8 * MEGABYTE,
)

IMPORT_PROGRESS = AvroTopic(
    "import-progress",
    "How far `podstream import events` has brought each file into the log; the newest record of a "
    "file counts.",
    key="import_id",
    schema="import_progress",
    partitions=1,
    cleanup="compact",
)

STAGE_FAILURES = AvroTopic(
    "stage-failures",
    "What a Spark stage has tried in vain while the others go on: how often, why, and when it is "
    "tried again.",
    key="stage",
    schema="stage_failure",
    partitions=1,
    cleanup="compact",
)

SCHEMAS = RawTopic(
    "_schemas",
    "Schemas and their ids, in the record format of Confluent's registry.",
    key="registry record key (JSON)",
    partitions=1,
    cleanup="compact",
)

TOPICS: tuple[Topic, ...] = (
    TABLE_GENERATIONS,
    TABLE_VERSIONS,
    SERVED_VERSION,
    SERVED_GENERATION,
    REDRIVE_PROGRESS,
    IMPORT_PROGRESS,
    STAGE_FAILURES,
    SCHEMAS,
)
