"""Structured logs: static messages with fields, the import's context on every line, no secrets.

What a line holds may come from a caller, a vendor or a library: it can neither begin a line of its
own, nor steer the terminal that shows it, nor fill the disk.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any, Final

import structlog

#: Names of fields whose value is never written, whatever it is.
_SECRET_NAMES: Final = re.compile(
    r"passw|secret|token|authorization|credential$|credentials$|api[-_]?key$|(^|[-_])pin$|cookie"
    r"|signature|private[-_]?key|vault[-_]?key",
    re.IGNORECASE,
)
#: Shapes that are never written, wherever they stand: keys and signing secrets of ours, basic and
#: bearer headers, JWTs, vault keys, Telnyx keys, passwords and queries in URLs, what a name before
#: it says is secret, the values that Postgres repeats, and phone numbers, which are personal data.
_SECRET_SHAPES: Final = (
    (re.compile(r"\btl_[0-9a-z]+_[A-Za-z0-9_-]+"), "tl_[hidden]"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=]+"), "whsec_[hidden]"),
    (re.compile(r"\b(Basic|Bearer)\s+[A-Za-z0-9+/=._:-]+", re.IGNORECASE), r"\1 [hidden]"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), "[hidden]"),
    (re.compile(r"(?<![\w-])[A-Za-z0-9_-]{43}=(?![\w=-])"), "[hidden]"),
    (re.compile(r"\bKEY[0-9A-F]{32}(_\w+)?"), "KEY[hidden]"),
    (re.compile(r"(\b\w+://)[^/\s:@]*:[^/\s@]+@"), r"\1[hidden]@"),
    (re.compile(r"(https?://[^\s?#\"']{1,1024})[?#][^\s\"']+"), r"\1?[hidden]"),
    (re.compile(r"((?<![\w/])/[^\s?#\"']{0,1024})\?[^\s\"']+"), r"\1?[hidden]"),
    (
        # 'password': 'x', auth_token=x, X-Api-Key: x, as libraries print what they send.
        re.compile(
            r"(?<![\w-])([\w-]{0,40}(?:passw|secret|token|api[-_]?key|signature|cookie)[\w-]{0,20}"
            r"[\"']?\s?[:=]\s?b?)(\"[^\"]*\"|'[^']*'|[^\s,;&})\]]+)",
            re.IGNORECASE,
        ),
        r"\1[hidden]",
    ),
    (re.compile(r"(DETAIL: ).*"), r"\1[hidden]"),
    (re.compile(r"(?<![\w-])\+[1-9][0-9]{5,13}([0-9]{2})(?![0-9])"), r"+…\1"),
)


#: Without any of these no shape can be there: nine of ten texts are passed on after one look.
_SUSPICIOUS: Final = re.compile(
    r"[+?#@=:]|tl_|whsec_|eyJ|KEY|[Bb][Aa][Ss][Ii][Cc]|[Bb][Ee][Aa][Rr]"
)
#: Characters of one text that are written; a traceback gets four times as many.
_LONGEST_TEXT: Final = 4096
_LONGEST_TRACEBACK: Final = 16384
#: How much is looked at: beyond that no expression is to look for secrets, so it is cut off first.
_LONGEST_READ: Final = 2 * _LONGEST_TRACEBACK
_MOST_ITEMS: Final = 100


def redact(value: Any, name: str = "") -> Any:  # noqa: ANN401 -- whatever a log field holds
    """Returns the value as it may be written; a field's name alone can make it a secret."""
    if name and _is_secret(name[:200]):
        return "[hidden]"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {
            redact(str(key)): redact(item, str(key))
            for key, item in list(value.items())[:_MOST_ITEMS]
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in list(value)[:_MOST_ITEMS]]
    # Bytes, exceptions and whatever else would otherwise become text behind our back.
    text = str(value) if isinstance(value, str) else repr(value)
    text = text[:_LONGEST_READ]
    if _SUSPICIOUS.search(text) is None:
        return text
    for shape, instead in _SECRET_SHAPES:
        text = shape.sub(instead, text)
    return text


@lru_cache(maxsize=512)
def _is_secret(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def printable(text: str, *, keep: str = "") -> str:
    """Returns text in which control characters are visible.

    A caller chooses what a message says, and others what their objects are called: neither may
    steer the terminal of whoever reads it, nor reorder its letters.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in keep else one.encode("unicode_escape").decode()
        for one in text
    )


def _redact_event(
    _logger: Any,  # noqa: ANN401 -- structlog's signature
    _method: str,
    event: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    return {key: _written(value, key) for key, value in event.items()}


def _written(value: Any, name: str) -> Any:  # noqa: ANN401 -- whatever a log field holds
    if name == "timestamp":
        return value
    longest = _LONGEST_TRACEBACK if name in _MANY_LINES else _LONGEST_TEXT
    return _plain(redact(value, name), longest=longest)


#: Fields that hold several lines.
_MANY_LINES: Final = frozenset({"exception", "stack"})


def _plain(value: Any, *, longest: int) -> Any:  # noqa: ANN401 -- whatever a log field holds
    """Returns a value with its texts cut to a length; of a longer one both ends tell most."""
    if isinstance(value, str) and len(value) > longest:
        half = longest // 2
        return f"{value[:half]} […{len(value) - longest} more…] {value[-half:]}"
    if isinstance(value, dict):
        return {key: _plain(item, longest=longest) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, longest=longest) for item in value]
    return value


def _make_visible(
    _logger: Any,  # noqa: ANN401 -- structlog's signature
    _method: str,
    event: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    """For people only: JSON escapes by itself."""
    return {key: _visible(value, key) for key, value in event.items()}


def _visible(value: Any, name: str = "") -> Any:  # noqa: ANN401 -- whatever a log field holds
    if isinstance(value, str):
        if name in _MANY_LINES:
            # Indented: a message of several lines must not look like a line of the log.
            return "\n".join(f"  {printable(line)}" for line in value.split("\n"))
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _visible(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_visible(item) for item in value]
    return value


def configure(*, level: str, log_format: str) -> None:
    """Sends every log line of this process, ours and the libraries', to stderr in one form."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    rendering: list[structlog.typing.Processor] = (
        [structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [_make_visible, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
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
                *rendering,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # At DEBUG and INFO libraries print what they send: URLs, phone numbers, headers, whole bodies;
    # Celery prints every message twice. So the level is ours alone, and uvicorn's and Alembic's,
    # which say what a process does; all others are heard from WARNING on.
    chosen = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(chosen, logging.WARNING))
    for ours in _OURS:
        logging.getLogger(ours).setLevel(chosen)
    for talkative in ("uvicorn", "alembic"):
        logging.getLogger(talkative).setLevel(max(chosen, logging.INFO))
    # Those who chose a level of their own, or whom an environment variable chose one for.
    for noisy in ("twilio", "telnyx", "httpx", "httpcore", "urllib3", "aiohttp", "celery"):
        logging.getLogger(noisy).setLevel(max(chosen, logging.WARNING))


#: The packages of this project.
_OURS: Final = ("worker", "api_stub")


def adopt_last_words() -> None:
    """Sends what nobody caught, and warnings, through our own handler; once, when a process starts.

    Python would print an exception's message as it is, with whatever secret is in it.
    """
    logger = structlog.get_logger("worker.logs")

    def uncaught(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        logger.critical("uncaught", exc_info=(kind, error, trace))

    def uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None and not isinstance(told.exc_value, SystemExit):
            uncaught(told.exc_type, told.exc_value, told.exc_traceback)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
    logging.captureWarnings(capture=True)


@contextmanager
def bound(**fields: Any) -> Iterator[None]:  # noqa: ANN401 -- whatever a log field holds
    """Adds fields to every log line of the block."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield
