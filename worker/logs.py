"""Structured logs: static messages with fields, the import's context on every line, no secrets."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

import structlog

#: Names of fields whose value is never written, whatever it is.
_SECRET_NAMES: Final = re.compile(
    r"password|secret|token|authorization|credential$|credentials$|api_key$|(^|_)pin$|cookie",
    re.IGNORECASE,
)
#: Shapes that are never written, wherever they stand: keys and signing secrets of ours, basic and
#: bearer headers, JWTs, passwords and queries in URLs, and phone numbers, which are personal data.
_SECRET_SHAPES: Final = (
    (re.compile(r"\btl_[0-9a-z]+_[A-Za-z0-9_-]+"), "tl_[hidden]"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=]+"), "whsec_[hidden]"),
    (re.compile(r"\b(Basic|Bearer)\s+[A-Za-z0-9+/=._:-]+", re.IGNORECASE), r"\1 [hidden]"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), "[hidden]"),
    (re.compile(r"(\w+://)[^/\s:@]*:[^/\s@]+@"), r"\1[hidden]@"),
    (re.compile(r"(https?://[^\s?#\"']+)[?#][^\s\"']+"), r"\1?[hidden]"),
    (re.compile(r"(?<![\w-])\+[1-9][0-9]{5,13}([0-9]{2})(?![0-9])"), r"+…\1"),
)


def redact(value: Any, name: str = "") -> Any:  # noqa: ANN401 -- whatever a log field holds
    """Returns the value as it may be written; a field's name alone can make it a secret."""
    if _SECRET_NAMES.search(name):
        return "[hidden]"
    if isinstance(value, str):
        for shape, instead in _SECRET_SHAPES:
            value = shape.sub(instead, value)
        return value
    if isinstance(value, dict):
        return {key: redact(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value


def _redact_event(
    _logger: Any,  # noqa: ANN401 -- structlog's signature
    _method: str,
    event: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    return {key: redact(value, key) for key, value in event.items()}


def configure(*, level: str, log_format: str) -> None:
    """Sends every log line of this process, ours and the libraries', to stderr in one form."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    # Exceptions become text, without the values of local variables, before the redaction sees them.
    exceptions = structlog.processors.format_exc_info
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                exceptions,
                _redact_event,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The first ones print URLs, phone numbers or headers at INFO; Celery prints every message
    # twice, and every tick of the clock, where the guard says more in one line.
    for noisy in ("twilio", "httpx", "httpcore", "urllib3", "aiohttp", "celery"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@contextmanager
def bound(**fields: Any) -> Iterator[None]:  # noqa: ANN401 -- whatever a log field holds
    """Adds fields to every log line of the block."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield
