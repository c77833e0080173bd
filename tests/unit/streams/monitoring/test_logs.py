"""What a process logs, in lines that a machine reads, and the trace that it belongs to."""

from __future__ import annotations

import json
import logging.config

import pytest

from streams.monitoring.logs import STAGE, json_config
from streams.monitoring.tracing import CURRENT, TRACEPARENT, sampled, traced
from topology.model import AvroTopic
from topology.settings import Settings

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TOPIC = AvroTopic("things", "", key="", schema="episode", max_message_bytes=1_000)


def test_a_line_is_an_object_that_says_where_it_was_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stage, trace = STAGE.set("recommend"), CURRENT.set(TRACE)
    try:
        logging.config.dictConfig(json_config(Settings(log_level="INFO"), "recommend-1"))
        logging.getLogger("streams.x").debug("unheard")
        try:
            raise ValueError("a\nb")
        except ValueError:
            logging.getLogger("streams.x").exception("it %s", "failed")
        CURRENT.reset(trace)
        STAGE.reset(stage)
        logging.getLogger("other").warning("plain")
    finally:
        root.handlers, root.level = before, level
    failed, plain = map(json.loads, capsys.readouterr().out.splitlines())
    assert {name: failed[name] for name in ("level", "logger", "message", "process", "stage")} == {
        "level": "ERROR",
        "logger": "streams.x",
        "message": "it failed",
        "process": "recommend-1",
        "stage": "recommend",
    }
    assert failed["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert "ValueError: a\nb" in failed["exc_info"]
    assert failed["time"].endswith("+00:00")
    assert plain.keys() == {"time", "level", "logger", "message", "process"}


def test_a_batch_follows_the_first_of_its_records_that_is_sampled() -> None:
    unsampled, other = TRACE[:-2] + b"00", TRACE[:-2] + b"03"
    headers = [None, [("a", b"1")], [(TRACEPARENT, unsampled)], [(TRACEPARENT, b"nonsense")]]
    assert sampled(headers) == b""
    assert sampled([*headers, [("a", b"1"), (TRACEPARENT, other)], [(TRACEPARENT, TRACE)]]) == other


def test_what_is_sent_has_the_trace_unless_it_has_one_or_would_not_fit() -> None:
    assert traced(TOPIC, b"k", b"v", [("a", b"1")]) == [("a", b"1")]
    token = CURRENT.set(TRACE)
    try:
        assert traced(TOPIC, b"k", None, [("a", b"1")]) == [("a", b"1"), (TRACEPARENT, TRACE)]
        assert traced(TOPIC, None, b"v" * 900, []) == []
        assert traced(TOPIC, None, b"v", [(TRACEPARENT, b"x")]) == [(TRACEPARENT, b"x")]
    finally:
        CURRENT.reset(token)
