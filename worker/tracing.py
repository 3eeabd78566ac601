"""Traces with OpenTelemetry: one a job, from its submit to the vendors; off unless configured.

A job's trace has the job's own id: ``imp_0193…`` is trace ``0193…``. So nothing has to be carried
from one process to the next, nor stored: whoever works on a job, days later, after a rescue by the
sweep, in another release or to undo it, adds to the same trace, and an operator finds it by the
job's id alone. A trace of the caller's is linked from the request's span.

Names and attributes hold words of ours, statuses and error codes; never a message, a number, the
query of a URL, a header or a credential. Without an endpoint nothing of the SDK is imported.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

import atexit
import importlib
import importlib.metadata
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span, SpanContext, SpanKind, Tracer

_log = structlog.get_logger()

#: Jobs of one request, such as a batch, in whose traces it is shown.
_MOST_JOBS: Final = 100
#: How long a process that ends waits for its last spans to be taken.
_FLUSH_SECONDS: Final = 2.0


class Traces:
    """What this process sends; there is one, or none if traces are off."""

    def __init__(self, provider: TracerProvider, processor: SpanProcessor) -> None:
        self._provider = provider
        self._processor = processor
        self._tracer: Tracer = provider.get_tracer("trunkline")

    @contextmanager
    def span(
        self,
        name: str,
        parent: SpanContext,
        *,
        kind: SpanKind | None = None,
        attributes: Mapping[str, str | int | bool],
    ) -> Iterator[Span]:
        """Shows what the block does; an error is told by whoever knows its code."""
        from opentelemetry import trace  # noqa: PLC0415 -- with the SDK

        span = self._tracer.start_span(
            name,
            _within(parent),
            kind=trace.SpanKind.INTERNAL if kind is None else kind,
            attributes=dict(attributes),
        )
        try:
            yield span
        finally:
            span.end()

    def request(
        self, request: Request, job_id: UUID, *, route: str, method: str, status: int
    ) -> None:
        """Shows the request that made or moved a job, now that it has been answered."""
        from opentelemetry import trace  # noqa: PLC0415 -- with the SDK
        from opentelemetry.context import Context  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        found = TraceContextTextMapPropagator().extract(
            {"traceparent": request.traceparent}, Context()
        )
        caller = trace.get_current_span(found).get_span_context()
        self._tracer.start_span(
            f"{method} {route}",
            _within(root_of(job_id)),
            kind=trace.SpanKind.SERVER,
            attributes={
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
            },
            links=[trace.Link(caller)] if caller.is_valid else [],
            start_time=request.begun_ns,
        ).end()

    def job(
        self, job_id: UUID, *, attributes: Mapping[str, str], begun: datetime, ended: datetime
    ) -> None:
        """Shows a whole job, once it has ended: the span that all others of its trace are in."""
        from opentelemetry import trace  # noqa: PLC0415 -- with the SDK
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415

        failed = "error.type" in attributes
        self._processor.on_end(
            # Made by hand: a tracer would give it another id than those within it name.
            ReadableSpan(
                attributes["trunkline.kind"],
                context=root_of(job_id),
                resource=self._provider.resource,
                attributes=dict(attributes),
                kind=trace.SpanKind.INTERNAL,
                status=trace.Status(trace.StatusCode.ERROR if failed else trace.StatusCode.UNSET),
                start_time=_nanoseconds(begun),
                end_time=_nanoseconds(ended),
            )
        )

    def end_with_process(self) -> None:
        """Sends what is left when the process ends, if the collector takes it soon."""
        ending = threading.Event()

        def send() -> None:
            ending.wait()
            self._provider.shutdown()

        # On a thread, since a collector that is away must not hold up the end, where the SDK would
        # wait for half a minute; begun now, since a process that ends begins none.
        sending = threading.Thread(target=send, name="last-spans", daemon=True)
        sending.start()

        def end() -> None:
            ending.set()
            sending.join(_FLUSH_SECONDS)

        atexit.register(end)


_traces: Traces | None = None


def configure(endpoint: str | None, *, service: str) -> None:
    """Turns traces on if they are to go anywhere; once a process, after any fork.

    ``service`` is what the process is called, unless OTEL_SERVICE_NAME says otherwise. The SDK
    reads the endpoint itself.
    """
    global _traces  # noqa: PLW0603 -- one a process
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if _traces is not None or off or endpoint is None:
        return
    try:
        _traces = _connect(service)
    except ImportError:
        # Importing numbers must not stop because nobody can watch.
        _log.warning("no traces: install trunkline[otel], or unset OTEL_EXPORTER_OTLP_ENDPOINT")
        return
    _traces.end_with_process()


def _connect(service: str) -> Traces:
    exporters = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 -- only where it is wanted
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415

    attributes = {"service.version": importlib.metadata.version("trunkline")}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = service
    provider = TracerProvider(
        # All or nothing: UUIDv7s are not spread evenly, as a sampler by ratio takes for granted.
        # A collector can choose whole traces.
        sampler=ALWAYS_ON,
        resource=Resource.create(attributes),
        shutdown_on_exit=False,
    )
    processor = BatchSpanProcessor(exporters.OTLPSpanExporter())
    provider.add_span_processor(processor)
    return Traces(provider, processor)


def root_of(job_id: UUID) -> SpanContext:
    """Returns the id of a job's trace and of the span that all others of it are in. Pure."""
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415 -- with the SDK

    # The half of a UUIDv7 that is random.
    return SpanContext(
        job_id.int, job_id.int & (2**64 - 1), is_remote=True, trace_flags=TraceFlags(1)
    )


def _within(parent: SpanContext) -> Any:  # noqa: ANN401 -- OpenTelemetry's own Context
    from opentelemetry import trace  # noqa: PLC0415 -- with the SDK
    from opentelemetry.context import Context  # noqa: PLC0415

    return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1000


# Requests of callers


@dataclass
class Request:
    """One request to the API, and the jobs that it turns out to be about."""

    traceparent: str
    begun_ns: int = field(default_factory=time.time_ns)
    jobs: list[UUID] = field(default_factory=list)


_REQUEST: ContextVar[Request | None] = ContextVar("trunkline_request", default=None)


@contextmanager
def _receiving(traceparent: str) -> Iterator[Request]:
    request = Request(traceparent)
    token = _REQUEST.set(request)
    try:
        yield request
    finally:
        _REQUEST.reset(token)


def receive(traceparent: str) -> AbstractContextManager[Request | None]:
    """Collects the jobs that a request is about; None if traces are off."""
    return nullcontext() if _traces is None else _receiving(traceparent)


def note_job(job_id: UUID) -> None:
    """Notes that the request at hand, if there is one, is about a job."""
    request = _REQUEST.get()
    if request is not None and len(request.jobs) < _MOST_JOBS and job_id not in request.jobs:
        request.jobs.append(job_id)


def answered(request: Request | None, *, route: str, method: str, status: int) -> None:
    """Shows a request that has been answered in the traces of its jobs."""
    if request is not None and _traces is not None:
        for job_id in request.jobs:
            _traces.request(request, job_id, route=route, method=method, status=status)


# Jobs, steps and calls


def end_job(
    job_id: UUID,
    *,
    kind: str,
    provider: str,
    state: str,
    code: str | None,
    begun: datetime,
    ended: datetime,
) -> None:
    """Shows a job that came to its end."""
    if _traces is not None:
        attributes = {
            "trunkline.kind": str(kind),
            "trunkline.provider": provider,
            "trunkline.state": str(state),
        }
        if code is not None:
            attributes["error.type"] = code
        _traces.job(job_id, attributes=attributes, begun=begun, ended=ended)


#: The span of an attempt, for what is done within it; None if traces are off.
Parent = Any


@contextmanager
def _attempting(
    traces: Traces,
    job_id: UUID,
    attributes: Mapping[str, str | int | bool],
    outcome: Callable[[], str],
) -> Iterator[Parent]:
    name = str(attributes["trunkline.step"]) + (".undo" if attributes["trunkline.undo"] else "")
    with traces.span(name, root_of(job_id), attributes=attributes) as span:
        yield span.get_span_context()
        # Nothing gets here by an exception: the guard turns each into an outcome.
        if (ended := outcome()) != "done":
            _fail(span, ended)


def attempt(
    job_id: UUID, *, step: str, undo: bool, number: int, provider: str, outcome: Callable[[], str]
) -> AbstractContextManager[Parent]:
    """Shows one attempt at a step, which ends as ``outcome`` then says."""
    if _traces is None:
        return nullcontext()
    attributes: dict[str, str | int | bool] = {
        "trunkline.step": str(step),
        "trunkline.undo": undo,
        "trunkline.attempt": number,
        "trunkline.provider": provider,
    }
    return _attempting(_traces, job_id, attributes, outcome)


class Call:
    """One request to a vendor, and the status of its answer once there is one."""

    status: int | None = None


@contextmanager
def _calling(
    traces: Traces, parent: SpanContext, attributes: Mapping[str, str | int | bool], call: Call
) -> Iterator[None]:
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 -- with the SDK

    name = f"{attributes['http.request.method']} {attributes['url.template']}"
    with traces.span(name, parent, kind=SpanKind.CLIENT, attributes=attributes) as span:
        try:
            yield
        except BaseException as error:
            _fail(span, type(error).__name__)
            raise
        finally:
            if call.status is not None:
                span.set_attribute("http.response.status_code", call.status)
                if call.status >= 400:  # noqa: PLR2004 -- semantic conventions: a client's error
                    _fail(span, str(call.status))


def calling(
    parent: Parent, vendor: str, *, method: str, url: str, call: Call
) -> AbstractContextManager[None]:
    """Shows one request to a vendor within an attempt; nothing outside of one."""
    if _traces is None or parent is None:
        return nullcontext()
    parts = urlsplit(url)
    attributes: dict[str, str | int | bool] = {
        "trunkline.vendor": vendor,
        "http.request.method": method,
        "server.address": parts.hostname or "",
        "url.template": route_of(parts.path),
    }
    if parts.port is not None:
        attributes["server.port"] = parts.port
    return _calling(_traces, parent, attributes, call)


def _fail(span: Span, kind: str) -> None:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 -- with the SDK

    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


#: A part of a path that is a word of a vendor's API, or its version; the rest are ids and numbers.
_WORD: Final = re.compile(
    r"v[0-9]{1,2}|20[0-9]{2}-[0-9]{2}-[0-9]{2}"
    r"|(?:livekit\.)?(?![A-Z]{4,})[A-Za-z_-]{2,32}(?:\.json)?"
)


def route_of(path: str) -> str:
    """Returns a vendor's path without what tells one account or number from another. Pure."""
    return "/".join(
        part if not part or _WORD.fullmatch(part) else "{id}" for part in path.split("/")
    )
