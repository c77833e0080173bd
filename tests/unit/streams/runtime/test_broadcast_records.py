"""Broadcast topics: what does not decode costs one line in the log and nothing else."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from streams.runtime.context import broadcast_records, keyed_records
from streams.runtime.in_memory import MemoryRuntime
from topology.graph import build_graph
from topology.settings import Settings

WEIGHTS = {
    "source_partition": 0,
    "als": 0.5,
    "content": 0.3,
    "trending": 0.2,
    "intercept": 0.0,
    "samples": 1,
    "offset": 7,
    "at": 0,
}


def test_bad_records_are_passed_over_and_said_and_withdrawn_ones_are_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = MemoryRuntime(build_graph(1), Settings(podstream_home=tmp_path, _env_file=None))
    context = runtime.start("recommend")
    values = ({**WEIGHTS}, b"no frame", None)
    messages = [
        runtime.log.append("blend-weights", value, key=key)
        for value, key in zip(values, (b"0", b"1", b"\xff"), strict=True)
    ]
    with caplog.at_level(logging.WARNING, logger="streams.runtime.context"):
        found = list(broadcast_records(context, messages))
        keyed = list(keyed_records(context, messages))
    assert [message.offset for message, _ in found] == [0, 2]
    assert found[0][1]["offset"] == 7
    assert found[1][1] is None
    assert [key for key, _ in keyed] == ["0", "\ufffd"]
    assert [r.message.split(":")[1] for r in caplog.records] == [
        " blend-weights[0]@1 is passed over"
    ] * 2
