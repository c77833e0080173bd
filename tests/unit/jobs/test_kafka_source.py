"""What a query's progress says of the log, as pyspark hands it on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pyspark.sql.streaming.listener import StreamingQueryProgress

from jobs.kafka_source import reached


def progress(end: Any) -> StreamingQueryProgress:
    """As Spark reports it, in JSON."""
    rates = {"inputRowsPerSecond": 1.0, "processedRowsPerSecond": 1.0, "numInputRows": 1}
    source = {"description": "kafka", "startOffset": None, "endOffset": end, "latestOffset": end}
    return StreamingQueryProgress.fromJson(
        {
            "id": "6b4a1b2c-0000-4000-8000-000000000000",
            "runId": "6b4a1b2c-0000-4000-8000-000000000001",
            "name": "q",
            "timestamp": "2026-01-01T00:00:00.000Z",
            "batchId": 1,
            "batchDuration": 1,
            "durationMs": {"triggerExecution": 1},
            "stateOperators": [],
            "sources": [{**source, **rates, "metrics": {}}],
            "sink": {"description": "foreach", "numOutputRows": -1, "metrics": {}},
            "eventTime": {},
            "observedMetrics": {},
            **rates,
        }
    )


def query(name: str, last: StreamingQueryProgress | None) -> Any:
    return SimpleNamespace(name=name, lastProgress=last)


def test_the_offsets_of_each_stages_queries_are_put_together() -> None:
    found = reached(
        [
            query("write_delta.batches", progress({"a": {"0": 5, "1": 7}})),
            query("write_delta.records", progress({"b": {"0": 2}})),
            query("embed_transcripts", progress({"b": {"0": 1}})),
        ]
    )
    assert found == {
        "write_delta": {"a": {0: 5, 1: 7}, "b": {0: 2}},
        "embed_transcripts": {"b": {0: 1}},
    }


def test_a_query_that_has_done_nothing_says_nothing() -> None:
    assert reached([query("write_delta.batches", None), query("x", progress(None))]) == {}
