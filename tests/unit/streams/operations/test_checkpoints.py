"""How far Spark's queries are, read from their checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streams.operations.checkpoints import checkpoints, parse_offset_log


def _batch(
    query: Path, number: int, *sources: dict[str, Any] | None, committed: bool = True
) -> None:
    for name in ("offsets", "commits"):
        (query / name).mkdir(parents=True, exist_ok=True)
    lines = ["v1", '{"batchWatermarkMs":0}', *(json.dumps(s) if s else "-" for s in sources)]
    (query / "offsets" / str(number)).write_text("\n".join(lines))
    (query / "offsets" / f".{number}.crc").write_bytes(b"crc")
    if committed:
        (query / "commits" / str(number)).write_text('v1\n{"nextBatchWatermarkMs":0}')


def test_offset_log_of_two_sources() -> None:
    text = 'v1\n{"conf":{}}\n{"a":{"0":5,"1":7}}\n-\n{"b":{"0":1}}'
    assert parse_offset_log(text) == {"a": {0: 5, 1: 7}, "b": {0: 1}}


def test_a_batch_counts_once_it_is_committed(tmp_path: Path) -> None:
    query = tmp_path / "write_delta" / "events"
    _batch(query, 9, {"user-event-batches": {"0": 3}})
    _batch(query, 10, {"user-event-batches": {"0": 4}})
    _batch(query, 11, {"user-event-batches": {"0": 8}}, committed=False)
    assert checkpoints(str(tmp_path)) == {"write_delta/events": {"user-event-batches": {0: 4}}}
    assert checkpoints(tmp_path.as_uri()) == checkpoints(str(tmp_path))


def test_a_query_that_never_committed_has_done_nothing(tmp_path: Path) -> None:
    _batch(tmp_path / "write_delta", 0, {"recommendations": {"0": 3}}, committed=False)
    assert checkpoints(str(tmp_path)) == {"write_delta": {}}


def test_no_checkpoints_yet(tmp_path: Path) -> None:
    assert checkpoints(str(tmp_path / "nothing")) == {}


def test_checkpoints_that_only_spark_can_reach_are_unknown() -> None:
    assert checkpoints("wasbs://container@account.example/checkpoints") is None
