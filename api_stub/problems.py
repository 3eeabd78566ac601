"""Problem documents (RFC 9457): how every refusal and every failure reaches a caller.

A program reads ``code``, a person ``detail``. ``type`` is a URN, not a URL: it is the same on every
host and promises no page. A value that the caller sent is never repeated, nor is what went wrong
inside.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic.alias_generators import to_snake
from starlette.exceptions import HTTPException

from api_stub.schemas import FieldError, Problem
from worker.domain.errors import (
    InternalError,
    InvalidRequest,
    NotFound,
    PermanentError,
    TransientError,
    TrunklineError,
)
from worker.service import DATABASE_ERRORS

_log = structlog.get_logger()

MEDIA_TYPE: Final = "application/problem+json"
_OUTAGE_RETRY_SECONDS: Final = 2.0
#: A body of 64 KiB has room for thousands of faults; nobody reads more than these.
_MOST_FIELDS: Final = 20
#: Names that may be repeated. None of ours has a digit; a key or token in the wrong place has.
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_-]{1,64}")
#: Pydantic's words where they would tell of Python instead of JSON.
_WORDS: Final[Mapping[str, str]] = {
    "missing": "This field is required.",
    "extra_forbidden": "There is no such field.",
    "dict_type": "Must be a JSON object.",
    "model_type": "Must be a JSON object.",
    "model_attributes_type": "Must be a JSON object.",
}


class MethodNotAllowed(PermanentError):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    status = 405
    sentence = "This path does not take this method; the Allow header lists those that it takes."


class HeadTooLarge(PermanentError):
    """The path, the query and the headers together are larger than 32 KiB."""

    code = "head_too_large"
    status = 431
    sentence = "The URL and the headers of the request are too large."


class ServiceUnavailable(TransientError):
    """Our own database cannot be reached."""

    code = "service_unavailable"
    status = 503
    sentence = (
        "Trunkline cannot reach its database right now. Try again in a few seconds; a POST with "
        "an Idempotency-Key can be repeated safely."
    )


class InvalidFields(InvalidRequest):
    """An invalid request of which it is known what is wrong with which field."""

    def __init__(self, *fields: FieldError) -> None:
        super().__init__("; ".join(f"{one.field}: {one.message}" for one in fields))
        self.fields = fields


def render(
    error: TrunklineError, *, step: str | None = None, import_id: str | None = None
) -> Problem:
    """Returns an error as a document."""
    return Problem(
        type=f"urn:trunkline:problem:{error.code}",
        title=error.code.replace("_", " ").capitalize(),
        status=error.status,
        detail=error.message,
        code=error.code,
        step=step,
        import_id=import_id,
        errors=list(error.fields) if isinstance(error, InvalidFields) else None,
    )


def answer(
    error: TrunklineError,
    *,
    step: str | None = None,
    import_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Returns an error as a response, with the headers that its status asks for."""
    known = dict(headers or {})
    if error.status == HTTPStatus.UNAUTHORIZED:
        known["WWW-Authenticate"] = 'Bearer realm="trunkline"'
    if isinstance(error, TransientError) and error.retry_after is not None:
        known["Retry-After"] = str(math.ceil(error.retry_after))
    document = render(error, step=step, import_id=import_id)
    return JSONResponse(
        document.model_dump(mode="json", exclude_none=True),
        status_code=error.status,
        media_type=MEDIA_TYPE,
        headers=known,
    )


def name_fields(faults: Sequence[Any], *, inside: str | None = None) -> tuple[FieldError, ...]:
    """Turns pydantic's errors into the caller's terms; ``inside`` is the field that was parsed."""
    return tuple(_name(fault, inside) for fault in faults[:_MOST_FIELDS])


def _name(fault: Mapping[str, Any], inside: str | None) -> FieldError:
    place = list(fault["loc"]) if inside is None else ["body", inside, *fault["loc"]]
    if place == ["body"]:
        message = "Send a JSON object, with the header Content-Type: application/json."
        return FieldError(field="body", message=message)
    unknown = fault["type"] == "extra_forbidden"
    parts = [_part(part, as_sent=unknown) for part in place[1:]]
    message = _WORDS.get(fault["type"], str(fault["msg"]).removeprefix("Value error, "))
    return FieldError(field=".".join(parts), message=message)


def _part(part: str | int, *, as_sent: bool) -> str:
    if isinstance(part, int):
        return str(part)
    if _PLAIN_NAME.fullmatch(part) is None:
        return "(name not shown)"
    return part if as_sent or "-" in part else to_snake(part)


async def _on_refusal(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TrunklineError)
    return answer(error)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    unreadable = getattr(request.state, "unreadable", None)
    if unreadable is not None:
        return answer(InvalidFields(FieldError(field="body", message=unreadable)))
    return answer(InvalidFields(*name_fields(error.errors())))


async def _on_outage(_request: Request, error: Exception) -> JSONResponse:
    _log.warning("database unavailable", error=type(error).__name__)
    return answer(ServiceUnavailable(retry_after=_OUTAGE_RETRY_SECONDS))


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    """What the router and the framework themselves refuse."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return answer(NotFound("There is nothing at this path."))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return answer(MethodNotAllowed(), headers={"Allow": ", ".join(_methods(request))})
    if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return answer(InvalidRequest())
    return answer(InternalError())


def _methods(request: Request) -> Iterable[str]:
    """All methods of a path; the framework itself names those of one of its routes only."""
    path = getattr(request.scope.get("route"), "path", "")
    return sorted(name.upper() for name in request.app.openapi()["paths"].get(path, {"get": None}))


def install(app: FastAPI) -> None:
    """Makes every failure of an application a problem document.

    Unforeseen exceptions are the request log's: it stands around everything else.
    """
    app.add_exception_handler(TrunklineError, _on_refusal)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    for outage in DATABASE_ERRORS:
        app.add_exception_handler(outage, _on_outage)


def document(*errors: type[TrunklineError]) -> dict[int | str, dict[str, Any]]:
    """Returns a route's possible problems for its OpenAPI entry, by status, with examples."""
    found: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        entry = found.setdefault(error.status, _entry(HTTPStatus(error.status).phrase))
        example = render(error()).model_dump(mode="json", exclude_none=True)
        entry["content"][MEDIA_TYPE]["examples"][error.code] = {"value": example}
    # Also keeps FastAPI from listing a 422 of its own shape.
    found["default"] = _entry("Any other failure")
    example = render(InternalError()).model_dump(mode="json", exclude_none=True)
    found["default"]["content"][MEDIA_TYPE]["examples"][InternalError.code] = {"value": example}
    return found


def _entry(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": schema, "examples": {}}},
    }
