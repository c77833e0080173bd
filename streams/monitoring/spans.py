"""Spans of OpenTelemetry around what is done with records of a trace, where a collector is named.

Without `OTEL_EXPORTER_OTLP_ENDPOINT` nothing of OpenTelemetry is imported, and without a trace
nothing is measured: no span is the first of its trace.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

from streams.monitoring.tracing import CURRENT, TRACEPARENT
from topology.settings import Settings

log = logging.getLogger(__name__)

Span = Callable[[str, int], AbstractContextManager[None]]
"""Gives the span of what is done with so many records of a topic of the trace that is current."""


def untold(topic: str, records: int) -> AbstractContextManager[None]:
    """No span."""
    return nullcontext()


@cache
def _tracing(endpoint: str, process: str) -> bool:
    """Have spans sent to a collector; whether that can be done."""
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("no spans: install podstream[otel], or leave OTEL_EXPORTER_OTLP_ENDPOINT out")
        return False
    provider = TracerProvider(resource=Resource({"service.name": f"podstream-{process}"}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return True


def spans(settings: Settings, process: str, stage: str) -> Span:
    """What gives a stage its spans; none are made where no collector is named."""
    endpoint = settings.otel_exporter_otlp_endpoint
    if not endpoint or not _tracing(endpoint, process):
        return untold
    from opentelemetry import trace
    from opentelemetry.propagate import extract, inject

    tracer = trace.get_tracer("podstream")

    @contextmanager
    def span(topic: str, records: int) -> Iterator[None]:
        parent = CURRENT.get()
        if not parent:
            yield
            return
        told: dict[str, str | int] = {
            "messaging.system": "kafka",
            "messaging.destination.name": topic,
            "messaging.batch.message_count": records,
        }
        before = extract({TRACEPARENT: parent.decode()})
        with tracer.start_as_current_span(stage, before, trace.SpanKind.CONSUMER, told):
            carrier: dict[str, str] = {}
            inject(carrier)
            # What is sent meanwhile follows from this span.
            token = CURRENT.set(carrier[TRACEPARENT].encode())
            try:
                yield
            finally:
                CURRENT.reset(token)

    return span
