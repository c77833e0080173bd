"""Spans of what belongs to a trace, as a collector gets them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from streams.monitoring.spans import spans, untold
from streams.monitoring.tracing import CURRENT
from topology.settings import LOOPBACK, Settings

TRACE_ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes spans: its address, and what it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://{LOOPBACK}:{server.server_port}", bodies
        server.shutdown()
        thread.join()


def test_without_a_collector_there_are_no_spans() -> None:
    assert spans(Settings(), "track", "track_engagement") is untold


def test_a_batch_of_a_trace_is_a_span_that_what_it_sends_follows_from() -> None:
    with collector() as (address, bodies):
        settings = Settings(otel_exporter_otlp_endpoint=address)
        span = spans(settings, "track", "track_engagement")
        with span("user-event-batches", 3):
            assert CURRENT.get() == b""  # no trace begins here
        token = CURRENT.set(f"00-{TRACE_ID}-{PARENT}-01".encode())
        with span("user-event-batches", 64):
            following = CURRENT.get().decode()
        CURRENT.reset(token)
        provider = trace.get_tracer_provider()
        assert isinstance(provider, TracerProvider)
        provider.shutdown()
    (body,) = bodies
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    (told,) = [span for scope in resource.scope_spans for span in scope.spans]
    assert (told.name, told.trace_id.hex(), told.parent_span_id.hex()) == (
        "track_engagement",
        TRACE_ID,
        PARENT,
    )
    assert following == f"00-{TRACE_ID}-{told.span_id.hex()}-01"
    attributes = {one.key: one.value for one in told.attributes}
    assert attributes["messaging.batch.message_count"].int_value == 64
    names = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert names["service.name"] == "podstream-track"
