"""The HTTP API: parses, authorises, hands over to :mod:`worker.service`, formats.

Run with ``uvicorn api_stub.app:create_app --factory``. Only what a caller asks
to look at makes it call a provider: a preflight, a check, an account's numbers, a rotation.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from api_stub import callbacks, page, problems
from api_stub.dialects import DIALECTS
from api_stub.middleware import BodyLimit, RequestLog
from api_stub.routes import (
    agents,
    audit,
    batches,
    credentials,
    health,
    imports,
    keys,
    numbers,
    organizations,
    signing,
    users,
)
from api_stub.routes._looking import LOOKING_THREADS
from api_stub.schemas import Problem
from api_stub.waiting import POLLING_THREADS, Watch
from worker import logs, tracing
from worker.service import Service
from worker.settings import load

_DESCRIPTION: Final = """
Imports phone numbers that customers already own into a voice-AI platform, as durable jobs.

Send an API key as `Authorization: Bearer KEY` or `X-Api-Key: KEY`. Every failure is an
[RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem document with a stable `code`.
Field names are snake_case; camelCase is accepted on input.
"""
#: Swagger UI comes from a CDN and holds the key that a reader types in: it may talk to us only.
_DOCS_POLICY: Final = (
    "default-src 'none'; script-src https://cdn.jsdelivr.net 'unsafe-inline'; "
    "style-src https://cdn.jsdelivr.net 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


class Api(FastAPI):
    """FastAPI whose schema knows the problem document, which no route returns as its model."""

    def openapi(self) -> dict[str, Any]:
        """Returns the OpenAPI document; made once."""
        if self.openapi_schema is None:
            schema = super().openapi()
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            known = schema["components"]["schemas"]
            known |= problem.pop("$defs")
            known["Problem"] = problem
        return super().openapi()


def create_app() -> FastAPI:
    """Returns the application that the environment describes."""
    settings = load()
    logs.configure(level=settings.log_level, log_format=settings.log_format)
    logs.adopt_last_words()
    tracing.configure(settings.otlp_endpoint, service="trunkline-api")
    _adopt_server_logs()
    # A thread that cannot have a connection would only wait for one.
    connections = settings.database_pool_size + settings.database_max_overflow
    return build(Service.from_settings(settings), threads=max(1, connections - POLLING_THREADS))


def build(service: Service, *, threads: int) -> FastAPI:
    """Returns the application around a service; ``threads`` requests are worked on at a time.

    More may be open: a request that waits, for an import or its turn, holds no thread.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Instead of anyio's 40 for every program alike.
        anyio.to_thread.current_default_thread_limiter().total_tokens = threads
        with app.state.watch.ended_by_sigterm():
            yield
        service.close()

    app = Api(
        title="Trunkline",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # A redirect to the path without a slash would repeat the Host header that came.
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        # FastAPI's own traces and logs would carry query strings and exception messages.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.service = service
    app.state.watch = Watch(service)
    app.state.lookers = CapacityLimiter(LOOKING_THREADS)
    directory = (organizations, users, agents, keys, audit)
    for part in (imports, batches, credentials, numbers, signing, *directory, health, callbacks):
        app.include_router(part.router)
    for dialect in DIALECTS.values():
        app.include_router(dialect)
    app.include_router(page.router)
    app.add_api_route("/docs", _docs, include_in_schema=False)
    problems.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestLog)
    return app


async def _docs(_request: Request) -> HTMLResponse:
    page = get_swagger_ui_html(
        openapi_url="/openapi.json", title="Trunkline API", swagger_favicon_url="data:,"
    )
    page.headers["Content-Security-Policy"] = _DOCS_POLICY
    return page


def _adopt_server_logs() -> None:
    """Sends uvicorn's lines through our own handler, which redacts.

    Its access log names paths and query strings; ours is in the middleware.
    """
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
