"""Traces of W3C's Trace Context, which travel in the header `traceparent` of records.

Who produces events begins a trace; nobody here does. A record belongs to the trace of its header, a
batch to the first of its records that is sampled, and what a handler sends to the trace of what it
was given ([ADR 20](../../docs/adr/0020-a-batch-follows-one-trace.md)).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextvars import ContextVar

from topology.model import Topic

TRACEPARENT = "traceparent"
HEADER_BYTES = 128
"""More than this header, and what a record and a header have beside text, take."""

_SAMPLED = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f][13579bdf]")

Headers = Sequence[tuple[str, bytes]]

CURRENT: ContextVar[bytes] = ContextVar("traceparent", default=b"")
"""The `traceparent` of what the running task works on; empty without a trace."""


def sampled(headers: Iterable[Headers | None]) -> bytes:
    """The first `traceparent` of a sampled trace among the headers of records; empty if none is."""
    for some in headers:
        for name, value in some or ():
            if name == TRACEPARENT and value and _SAMPLED.fullmatch(value):
                return value
    return b""


def traced(topic: Topic, key: bytes | None, value: bytes | None, headers: Headers) -> Headers:
    """The headers of a record that is sent now, with those of the trace where they fit."""
    trace = CURRENT.get()
    if not trace or any(name == TRACEPARENT for name, _ in headers):
        return headers
    others = sum(len(name) + len(text) + HEADER_BYTES for name, text in headers)
    size = len(key or b"") + len(value or b"") + others + HEADER_BYTES
    return [*headers, (TRACEPARENT, trace)] if size < topic.max_message_bytes else headers


def current_trace_id() -> str:
    """The id of the trace that the running task works on; empty without one."""
    return CURRENT.get()[3:35].decode()
