"""Answers `/metrics`, `/health` and `/ready`, in a thread that does nothing until it is asked."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from streams.monitoring.instruments import REGISTRY, tell_process
from topology.settings import Settings

log = logging.getLogger(__name__)

Missing = Callable[[], Iterable[str]]
"""Sentences that say what is missing; none if nothing is."""

CLIENT_TIMEOUT_S = 5.0
"""A client that has connected and says nothing holds others up no longer."""


def nothing() -> tuple[str, ...]:
    """What a process misses that is well as soon as it answers."""
    return ()


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Requests come every few seconds: nobody wants to read of them."""
        log.debug(format, *args)


class _Server(WSGIServer):
    def server_bind(self) -> None:
        """Bind without asking a name server what this machine is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


def application(alive: Missing, ready: Missing, registry: CollectorRegistry) -> Callable[..., Any]:
    """The WSGI application: 200, or 503 with a line for each sentence of `alive` or `ready`."""
    metrics: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)
    checks = {"/health": alive, "/ready": ready}

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        if path not in checks:
            status, text = "404 Not Found", "There are /metrics, /health and /ready."
        elif missing := list(checks[path]()):
            status, text = "503 Service Unavailable", "\n".join(missing)
        else:
            status, text = "200 OK", "ok"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()]

    return answer


def serve(
    settings: Settings,
    process: str,
    *,
    alive: Missing = nothing,
    ready: Missing = nothing,
    children: bool = False,
    registry: CollectorRegistry = REGISTRY,
) -> WSGIServer | None:
    """Answer on `METRICS_HOST` and `METRICS_PORT` as long as the process lives; None without port.

    ``alive`` and ``ready`` are called in the thread that answers. ``children`` says whether child
    processes take memory for it. OSError if the port is taken.
    """
    if not settings.metrics_port:
        return None
    tell_process(process, children=children, registry=registry)
    server = make_server(
        settings.metrics_host,
        settings.metrics_port,
        application(alive, ready, registry),
        server_class=_Server,
        handler_class=_Handler,
    )
    threading.Thread(
        # nobody shuts it down, so there is nothing to look for between requests
        target=server.serve_forever,
        args=(3600.0,),
        name="metrics",
        daemon=True,
    ).start()
    log.info("metrics at http://%s:%d/metrics", settings.metrics_host, settings.metrics_port)
    return server
