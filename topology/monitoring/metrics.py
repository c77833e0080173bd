"""Every metric of ours. Beside them each process tells Prometheus's own of processes
(`process_cpu_seconds_total`, `process_start_time_seconds`, …)."""

from __future__ import annotations

from topology.monitoring.model import HANDLING_BUCKETS, LATENCY_BUCKETS, Metric

_PROCESSES, _STAGES, _EVENTS, _SPARK = "Processes", "Stages", "Events", "Spark"
_API, _LOG, _STORES, _VERIFY = "Read API", "The log", "Stores and disk", "Verification"

# -- told by every process -----------------------------------------------------------------------

PROCESS_INFO = Metric(
    "podstream_process_info",
    "gauge",
    "1; the labels say which process this is, and of which release.",
    "",
    _PROCESSES,
    ("process", "version"),
)
PROCESS_MEMORY = Metric(
    "podstream_process_memory_bytes",
    "gauge",
    "Resident memory of the process and its children, such as Spark's JVM.",
    "bytes",
    _PROCESSES,
    ("process",),
)

# -- told by workers, for each of their stages ---------------------------------------------------

STAGE_READY = Metric(
    "podstream_stage_ready",
    "gauge",
    "Whether the stage has what it works with and keeps up: 1, else 0. `/ready` says what is "
    "missing.",
    "",
    _STAGES,
    ("stage",),
)
STAGE_VERSION = Metric(
    "podstream_stage_version",
    "gauge",
    "Version of the stage, which names its consumer group and its state.",
    "",
    _STAGES,
    ("stage",),
)
STAGE_PARTITIONS = Metric(
    "podstream_stage_partitions",
    "gauge",
    "Source partitions that this worker owns.",
    "partitions",
    _STAGES,
    ("stage",),
)
STAGE_UNREAD = Metric(
    "podstream_stage_unread_records",
    "gauge",
    "Records in those partitions that the worker has not fetched yet.",
    "records",
    _STAGES,
    ("stage",),
)
STAGE_RECORDS = Metric(
    "podstream_stage_records_total",
    "counter",
    "Records that were handled, with all that they led to delivered.",
    "records",
    _STAGES,
    ("stage", "topic"),
)
STAGE_LATENCY = Metric(
    "podstream_stage_latency_seconds",
    "histogram",
    "From when the oldest record of a batch was appended until all that the batch led to was "
    "delivered.",
    "seconds",
    _STAGES,
    ("stage", "topic"),
    LATENCY_BUCKETS,
)
STAGE_HANDLING = Metric(
    "podstream_stage_handling_seconds",
    "histogram",
    "How long a batch was worked on, delivery included.",
    "seconds",
    _STAGES,
    ("stage", "topic"),
    HANDLING_BUCKETS,
)
STAGE_DEAD_LETTERS = Metric(
    "podstream_stage_dead_letters_total",
    "counter",
    "Records that the stage put into their dead-letter topic.",
    "records",
    _STAGES,
    ("stage", "topic"),
)

# -- told by batch_events ------------------------------------------------------------------------

EVENTS = Metric(
    "podstream_events_total",
    "counter",
    "Events by what became of them: `read`, `batched`, `refused` (dead letters), `repeated`, "
    "`moved` (handed over to their listener's partition), `forgotten` (left out, as their "
    "listener asked for).",
    "events",
    _EVENTS,
    ("outcome",),
)

# -- told by the Spark application ---------------------------------------------------------------

QUERY_ACTIVE = Metric(
    "podstream_query_active",
    "gauge",
    "Whether a streaming query runs: 1, else 0.",
    "",
    _SPARK,
    ("query",),
)
QUERY_BATCH = Metric(
    "podstream_query_batch_seconds",
    "gauge",
    "How long the newest micro-batch of a query took.",
    "seconds",
    _SPARK,
    ("query",),
)
QUERY_ROWS = Metric(
    "podstream_query_input_rows",
    "gauge",
    "Rows that the newest micro-batch of a query read.",
    "rows",
    _SPARK,
    ("query",),
)

# -- told by the read API ------------------------------------------------------------------------

API_REQUESTS = Metric(
    "podstream_api_requests_total",
    "counter",
    "Requests answered, by route and HTTP status.",
    "requests",
    _API,
    ("route", "status"),
)
API_SECONDS = Metric(
    "podstream_api_request_seconds",
    "histogram",
    "From a request to the end of its answer.",
    "seconds",
    _API,
    ("route",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
)

# -- told by the exporter, which asks the services when it is asked -------------------------------

PART_UP = Metric(
    "podstream_part_up",
    "gauge",
    "Whether the exporter could measure a part of the instance: 1, else 0. `broker` and `mongodb` "
    "are the services, `disk` and `processes` this machine.",
    "",
    _PROCESSES,
    ("part",),
)
SUPERVISED_UP = Metric(
    "podstream_supervised_up",
    "gauge",
    "Whether a process of an instance without containers runs: 1, else 0.",
    "",
    _PROCESSES,
    ("process",),
)
SUPERVISED_MEMORY = Metric(
    "podstream_supervised_memory_bytes",
    "gauge",
    "Resident memory of such a process and its children; broker and MongoDB are among them.",
    "bytes",
    _PROCESSES,
    ("process",),
)
LAG = Metric(
    "podstream_stage_lag_records",
    "gauge",
    "Records of its source topics that wait for a stage, by what its group has committed.",
    "records",
    _LOG,
    ("stage",),
)
DEAD_LETTERS = Metric(
    "podstream_dead_letter_records",
    "gauge",
    "Records in a dead-letter topic.",
    "records",
    _LOG,
    ("topic",),
)
LATE_EVENTS = Metric(
    "podstream_late_events_total",
    "counter",
    "Events that came too late for the live tables; history has them.",
    "events",
    _LOG,
)
COUNTED_EVENTS = Metric(
    "podstream_counted_events_total",
    "counter",
    "Events that the live tables have been given, late ones among them.",
    "events",
    _LOG,
)
REPEATED_EVENTS = Metric(
    "podstream_repeated_events_total",
    "counter",
    "Events that came more than once, and count once.",
    "events",
    _LOG,
)
STRAY_EVENTS = Metric(
    "podstream_stray_events_total",
    "counter",
    "Events that lay in another partition than their listener's, by who produced them.",
    "events",
    _LOG,
    ("client",),
)
WATERMARK = Metric(
    "podstream_watermark_timestamp_seconds",
    "gauge",
    "Newest event time that the live tables have counted of a source partition, in Unix time.",
    "seconds",
    _LOG,
    ("partition",),
)
STAGE_FAILING = Metric(
    "podstream_stage_failing_attempts",
    "gauge",
    "Attempts of a training or an embedding that have failed since the last success.",
    "attempts",
    _STAGES,
    ("stage",),
)
GENERATIONS_REFUSED = Metric(
    "podstream_generations_refused_in_a_row",
    "gauge",
    "Generations of the recommendation model that are refused and newer than any that is not.",
    "generations",
    _STAGES,
)
TABLE_GENERATION = Metric(
    "podstream_table_generation",
    "gauge",
    "Generation of the tables that is served.",
    "",
    _STORES,
    ("table",),
)
STORE_ROWS = Metric(
    "podstream_store_documents",
    "gauge",
    "Documents that a MongoDB collection holds.",
    "documents",
    _STORES,
    ("collection",),
)
STORE_BYTES = Metric(
    "podstream_store_bytes",
    "gauge",
    "Bytes that a store takes on the disk of an instance without containers.",
    "bytes",
    _STORES,
    ("store",),
)
DISK_FREE = Metric(
    "podstream_disk_free_bytes",
    "gauge",
    "Bytes that are free where the instance writes.",
    "bytes",
    _STORES,
)
DISK_RESERVE = Metric(
    "podstream_disk_reserve_bytes",
    "gauge",
    "Bytes that are to stay free (`DISK_RESERVE`).",
    "bytes",
    _STORES,
)

# -- told by `podstream verify --watch` -----------------------------------------------------------

VERIFY_COMPARED = Metric(
    "podstream_verify_compared_total",
    "counter",
    "Numbers that were compared with what another way gives for them.",
    "numbers",
    _VERIFY,
    ("check",),
)
VERIFY_VIOLATIONS = Metric(
    "podstream_verify_violations_total",
    "counter",
    "Numbers that were not the same by another way, and were not when they were looked at again.",
    "numbers",
    _VERIFY,
    ("check",),
)
VERIFY_ROUND = Metric(
    "podstream_verify_round_timestamp_seconds",
    "gauge",
    "When the latest round was done, in Unix time.",
    "seconds",
    _VERIFY,
)

METRICS: tuple[Metric, ...] = (
    PROCESS_INFO,
    PROCESS_MEMORY,
    PART_UP,
    SUPERVISED_UP,
    SUPERVISED_MEMORY,
    STAGE_READY,
    STAGE_VERSION,
    STAGE_PARTITIONS,
    STAGE_UNREAD,
    STAGE_RECORDS,
    STAGE_LATENCY,
    STAGE_HANDLING,
    STAGE_DEAD_LETTERS,
    STAGE_FAILING,
    GENERATIONS_REFUSED,
    EVENTS,
    LAG,
    DEAD_LETTERS,
    LATE_EVENTS,
    COUNTED_EVENTS,
    REPEATED_EVENTS,
    STRAY_EVENTS,
    WATERMARK,
    QUERY_ACTIVE,
    QUERY_BATCH,
    QUERY_ROWS,
    API_REQUESTS,
    API_SECONDS,
    TABLE_GENERATION,
    STORE_ROWS,
    STORE_BYTES,
    DISK_FREE,
    DISK_RESERVE,
    VERIFY_COMPARED,
    VERIFY_VIOLATIONS,
    VERIFY_ROUND,
)
"""All of them, those of one subject side by side as the dashboard shows them."""
