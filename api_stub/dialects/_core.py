"""What all dialects share: a route that speaks its contract also when it refuses, and the import.

A dialect maps words. It parses its contract's request into an ImportRequest, waits for the job as
``Prefer: wait`` does, and says in its contract's words how that ended. It adds no behaviour: what a
contract needs is the service's to offer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, ClassVar
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from api_stub.bodies import StrictRoute
from api_stub.problems import InvalidFields, ServiceUnavailable, name_fields
from api_stub.schemas import FieldError
from api_stub.waiting import Watch, is_final
from worker.domain.errors import TransientError, TrunklineError, from_code
from worker.domain.job import JobState
from worker.domain.values import format_id
from worker.service import (
    DATABASE_ERRORS,
    Caller,
    ImportRequest,
    JobRecord,
    NumberRecord,
    Service,
)


class Dialect(ABC):
    """One published contract."""

    #: Its name: the path prefix is ``/dialects/{name}``.
    name: ClassVar[str]

    @abstractmethod
    def refuse(self, error: TrunklineError) -> Response:
        """Says an error in the contract's status, code and shape."""

    def invalid(self, request: Request, error: RequestValidationError) -> Response:
        """Says that a request does not fit the contract's schema."""
        unreadable = getattr(request.state, "unreadable", None)
        if unreadable is not None:
            return self.refuse(InvalidFields(FieldError(field="body", message=unreadable)))
        return self.refuse(InvalidFields(*name_fields(error.errors())))

    def router(self) -> APIRouter:
        """Returns a router whose routes speak this contract, also when they refuse."""
        return APIRouter(
            prefix=f"/dialects/{self.name}",
            tags=[f"dialect {self.name}"],
            route_class=self._route_class(),
        )

    def _route_class(self) -> type[StrictRoute]:
        dialect = self

        class Route(StrictRoute):
            """A route that says everything in one contract's words."""

            def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
                """Returns FastAPI's handler, whose refusals are the dialect's to say."""
                handle = super().get_route_handler()

                async def speak(request: Request) -> Response:
                    try:
                        return await handle(request)
                    except RequestValidationError as error:
                        return dialect.invalid(request, error)
                    except ValidationError as error:
                        # What the contract allows and the service does not, such as a long name.
                        return dialect.invalid(request, _of_body(error))
                    except TrunklineError as error:
                        return dialect.refuse(error)
                    except DATABASE_ERRORS:
                        return dialect.refuse(ServiceUnavailable(retry_after=2))

                return speak

        return Route


def _of_body(error: ValidationError) -> RequestValidationError:
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    return RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults])


def reworded(message: str, words: Mapping[str, str]) -> str:
    """Returns a message with the contract's names in the place of ours."""
    for ours, theirs in words.items():
        message = message.replace(ours, theirs)
    return message


class StillRunning(Exception):
    """The import outlived the wait; it goes on."""

    def __init__(self, job: JobRecord) -> None:
        super().__init__()
        self.job = job


async def import_number(
    request: Request, service: Service, caller: Caller, wanted: ImportRequest
) -> tuple[JobRecord, NumberRecord]:
    """Imports a number and waits for the end.

    Raises:
        TrunklineError: it was refused, or ended otherwise than active; with the job's own error.
        StillRunning: it has not ended yet.
    """
    submitted = await run_in_threadpool(service.submit, caller, wanted)
    watch: Watch = request.app.state.watch
    await watch.until(
        is_final, submitted.job.id, seconds=service.dialect_wait_seconds, request=request
    )
    return await run_in_threadpool(_ended, service, caller, submitted.job)


def _ended(service: Service, caller: Caller, job: JobRecord) -> tuple[JobRecord, NumberRecord]:
    job = service.get_import(caller, format_id("imp", job.id))
    if not job.is_final:
        raise StillRunning(job)
    number = None
    if job.state is JobState.ACTIVE and job.phone_number_id is not None:
        number = service.find_number(caller, job.phone_number_id)
    if number is not None:
        return job, number
    stuck = job.state is JobState.STUCK
    code = job.undo_error_code if stuck else job.error_code
    message = job.undo_error_message if stuck else job.error_message
    raise from_code(code or "", message or "")


def accepted(job: JobRecord, document: Mapping[str, Any]) -> Response:
    """Answers 202 with the address at which an import that goes on can be followed."""
    location = {"Location": f"/v1/imports/{format_id('imp', job.id)}"}
    return JSONResponse(dict(document), HTTPStatus.ACCEPTED, headers=location)


def retry_after(error: TrunklineError) -> dict[str, str]:
    """Returns the header that says when to try again, if that is known."""
    if isinstance(error, TransientError) and error.retry_after is not None:
        return {"Retry-After": str(round(error.retry_after))}
    return {}


def timestamp(value: datetime) -> str:
    """Returns RFC 3339 in UTC with milliseconds and a Z."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def object_id(value: UUID) -> str:
    """Returns 24 hexadecimal digits, as some platforms write ids: time first, then randomness.

    Of a UUIDv7 these are 48 bits of its time and 48 of its random bits.
    """
    return value.hex[:12] + value.hex[20:]
