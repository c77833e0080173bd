"""Rows of each fact topic, and telling repeats from news."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.core.decoding import PLACE, decode_batches, output_schema
from jobs.core.facts import FACTS, drop_repeats
from jobs.write_delta import QUERIES, check_edges
from schemas.codec import BadRecordError
from topology.graph import build_graph

SOURCE = ("source_partition", "source_offset")


def rows(partition: int, offsets: list[int]) -> pa.Table:
    cells = [[partition] * len(offsets), offsets]
    return pa.table(dict(zip(SOURCE, map(pa.array, cells), strict=True)))


@settings(deadline=None)  # the first call of pyarrow is slow
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 30)), max_size=20),
    st.integers(-1, 20),
)
def test_each_offset_passes_once_however_batches_are_cut_again(steps: Any, before: Any) -> None:
    """The writer of batches moves on by ``length`` and falls back by ``back`` at a crash."""
    applied = {3: before} if before >= 0 else {}
    at, seen = 0, []
    for length, back in steps:
        at = max(0, at - back)
        kept = drop_repeats(rows(3, list(range(at, at + length))), SOURCE, applied)
        seen += kept["source_offset"].to_pylist()
        at += length
    reached = max([before, applied.get(3, -1)])
    assert seen == [n for n in range(reached + 1) if n > before]


def test_partitions_do_not_hide_each_other() -> None:
    applied = {0: 10}
    mixed = pa.concat_tables([rows(0, [10, 11]), rows(1, [0, 1])])
    assert drop_repeats(mixed, SOURCE, applied)["source_offset"].to_pylist() == [11, 0, 1]
    assert applied == {0: 11, 1: 1}


def test_the_edges_are_those_of_the_topology_and_every_topic_has_one_query() -> None:
    graph = build_graph(1)
    check_edges(graph.stages["write_delta"])
    assert sorted(topic for query in QUERIES for topic in query.topics(graph)) == sorted(FACTS)


def test_bad_messages_become_rows_of_their_own() -> None:
    metrics = pa.schema([("model", pa.string()), ("value", pa.float64())])

    def decode(topic: str, value: bytes | None) -> dict[str, Any]:
        if value == b"bad":
            raise BadRecordError("why")
        return {"model": "m", "value": 2.0, "metric": "not in this table"}

    batch = pa.RecordBatch.from_pylist(
        [
            {
                "topic": "model-metrics",
                "partition": 0,
                "offset": offset,
                "key": b"k",
                "value": value,
            }
            for offset, value in enumerate([b"good", b"bad", None, b"good", b"good"])
        ]
    )
    tables = {"model_metrics": metrics}
    out = pa.Table.from_batches(
        decode_batches([batch], decode, tables, {"model_metrics": {0: 0}}, {}),
        schema=output_schema(tables),
    ).to_pylist()
    good = [row for row in out if row["error"] is None]
    assert [row["source_offset"] for row in good] == [3, 4]  # 0 is in the table already
    assert [row["offset"] for row in good] == [3, 4]
    assert good[0]["model_metrics"] == {"model": "m", "value": 2.0}
    (bad,) = [row for row in out if row["error"] is not None]
    assert (bad["offset"], bad["error"], bad["model_metrics"]) == (1, "why", None)
    assert set(PLACE.names) <= set(bad)
