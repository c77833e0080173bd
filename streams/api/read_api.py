"""The read API over HTTP: an application of FastAPI, and the process that serves it.

In: collections of MongoDB (`topology/stages/serving.py` lists them). Out: requests to forget a
listener, to `forget-requests`. Bad input gets one sentence, with a status that begins with 4. It
listens on the loopback interface; where other machines can reach it, `API_TOKEN` must be set.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as PlainHTTPException
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import LOGGING_CONFIG

from streams.api.access import is_exposed, is_let_in, is_local_host, refusal
from streams.api.documents import Documents
from streams.api.measuring import Measured
from streams.api.routes import health, routes
from streams.events.forgetting import ForgetRequests
from streams.monitoring.logs import set_up_logs
from streams.monitoring.server import serve
from topology.graph import get_graph
from topology.settings import Settings, get_settings

STAGE = "read_api"
MOST_CONNECTIONS = 2_000
LOG_TIMEOUT_S = 3.0
"""Longest that a request to forget a listener waits for the log."""

_BEARER = HTTPBearer(auto_error=False, description="The value of `API_TOKEN`, where it is set.")


class _LocalHosts:
    """Refuses requests that name another host than this machine's loopback interface."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_local_host(Headers(scope=scope).get("host", "")):
            sentence = "Ask this API as localhost, or by a loopback address."
            await JSONResponse({"error": sentence}, 400)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def create_app(settings: Settings, documents: Documents) -> FastAPI:
    """The application over these documents, which are closed with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await documents.close()

    # A coroutine, though it waits for nothing: FastAPI would run a function in a thread of its own.
    async def let_in(
        request: Request,
        _: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    ) -> None:
        if not is_let_in(settings, request.headers.get("Authorization", "")):
            raise HTTPException(
                401,
                "This API wants `Authorization: Bearer` with the value of API_TOKEN.",
                {"WWW-Authenticate": "Bearer"},
            )

    async def one_version() -> None:
        await documents.pin()

    app = FastAPIOffline(
        title="Podstream",
        summary="Recommendations, trending and live statistics of podcasts.",
        version="1",
        docs_url="/docs",
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(
        routes(documents, ForgetRequests(settings, LOG_TIMEOUT_S)),
        dependencies=[Depends(let_in), Depends(one_version)],
    )
    app.include_router(health(documents))

    @app.exception_handler(RequestValidationError)
    async def tell_what_is_wrong(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": f"{place}: {first['msg']}"}, 422)

    @app.exception_handler(PlainHTTPException)
    async def tell(_: Request, error: PlainHTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    if not is_exposed(settings) and not settings.api_token.get_secret_value():
        app.add_middleware(_LocalHosts)
    app.add_middleware(Measured)
    return app


def main() -> None:
    """Serve until SIGTERM. Exits with a sentence where the settings would expose it to anybody."""
    settings = get_settings()
    if sentence := refusal(settings):
        raise SystemExit(sentence)
    app = create_app(settings, Documents(settings, get_graph().stages[STAGE]))
    set_up_logs(settings, "api")
    # It answers from memory while MongoDB is away, so that is no reason not to ask it.
    serve(settings, "api")
    # Most objects live as long as the process: looking through them only holds requests up.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    uvicorn.run(
        app,
        host=settings.api_host,
        port=settings.api_port,
        log_level=settings.log_level.lower(),
        log_config=None if settings.log_format == "json" else LOGGING_CONFIG,
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
