"""What the routes that start a job share: its address, waiting for its end, and what that was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from api_stub import problems
from api_stub.routes._core import answer
from api_stub.schemas import JobOut, NumberOut
from api_stub.waiting import Watch, is_final, preferred_wait
from worker.domain.errors import (
    AccountSuspended,
    CallbacksUnreachable,
    InsufficientPermission,
    InternalError,
    InvalidCredentials,
    InvalidState,
    LiveKitMisconfigured,
    LiveKitUnavailable,
    NumberInUse,
    NumberNotActive,
    NumberNotOwned,
    NumberNotVoiceCapable,
    ProviderRateLimited,
    ProviderUnavailable,
    SignaturesUnverifiable,
    SipTrunkProvisionFailed,
    TrunkConflict,
    UndoFailed,
    WebhookSetupFailed,
    from_code,
)
from worker.domain.job import JobKind, JobState
from worker.domain.values import format_id
from worker.service import DATABASE_ERRORS, Caller, JobRecord, Service

#: What a job may end with, for a caller who waits.
FAILURES: Final = (
    InvalidCredentials,
    InsufficientPermission,
    AccountSuspended,
    SignaturesUnverifiable,
    SipTrunkProvisionFailed,
    NumberNotOwned,
    NumberNotVoiceCapable,
    NumberNotActive,
    NumberInUse,
    TrunkConflict,
    InvalidState,
    CallbacksUnreachable,
    ProviderRateLimited,
    InternalError,
    LiveKitMisconfigured,
    UndoFailed,
    WebhookSetupFailed,
    ProviderUnavailable,
    LiveKitUnavailable,
)
LOCATION: Final = {
    "description": "Where the job is.",
    "schema": {"type": "string", "examples": ["/v1/imports/imp_01890a5d…"]},
}
Prefer = Annotated[
    list[str] | None,
    Header(
        alias="Prefer",
        description="`wait=N` holds the answer until the job ends, at most a minute.",
    ),
]


def watch_of(request: Request) -> Watch:
    """Returns the application's one watch."""
    watch: Watch = request.app.state.watch
    return watch


def accepted(job: JobRecord, **headers: str) -> Response:
    """Answers that a job is under way, and where."""
    return answer(JobOut.from_record(job), HTTPStatus.ACCEPTED, {**_location(job), **headers})


async def outcome(
    request: Request,
    service: Service,
    caller: Caller,
    job: JobRecord,
    *,
    headers: Mapping[str, str],
    prefer: Sequence[str] | None,
) -> Response:
    """Answers with the job at once, or, if the caller prefers to wait, with how it ended."""
    seconds = preferred_wait(prefer or ())
    if seconds is None:
        return accepted(job, **headers)
    headers = {**headers, "Preference-Applied": f"wait={seconds}"}
    if not job.is_final:
        await watch_of(request).until(is_final, job.id, seconds=seconds, request=request)
    try:
        return await run_in_threadpool(_ended, service, caller, job, headers)
    except DATABASE_ERRORS:
        # The job is stored, whatever happened to the database since.
        return accepted(job, **headers)


def _ended(
    service: Service, caller: Caller, job: JobRecord, headers: Mapping[str, str]
) -> Response:
    job = service.get_import(caller, format_id("imp", job.id))
    if not job.is_final:
        return accepted(job, **headers)
    if job.state is JobState.RELEASED:
        return answer(JobOut.from_record(job), headers={**headers, **_location(job)})
    if job.state is not JobState.ACTIVE:
        return _failed(job, headers)
    assert job.phone_number_id is not None, "submit claims a number"
    number = service.find_number(caller, job.phone_number_id)
    if number is None:  # imported, and given back since
        return answer(JobOut.from_record(job), headers={**headers, **_location(job)})
    status = HTTPStatus.CREATED if job.kind is JobKind.IMPORT else HTTPStatus.OK
    location = {"Location": f"/v1/phone-numbers/{format_id('num', number.id)}"}
    return answer(NumberOut.from_record(number), status, {**headers, **location})


def _location(job: JobRecord) -> dict[str, str]:
    return {"Location": f"/v1/imports/{format_id('imp', job.id)}"}


def _failed(job: JobRecord, headers: Mapping[str, str]) -> Response:
    """The problem that ended a job, under its own status."""
    step = job.error_step
    if job.state is JobState.STUCK:
        # Not what made it fail: that would say that the number is as it was.
        error = from_code(job.undo_error_code or "", job.undo_error_message or "")
        step = job.undo_error_step
    elif job.error_code is not None:
        error = from_code(job.error_code, job.error_message or "")
    else:
        error = InvalidState("The import was cancelled; the number is as it was.")
    return problems.answer(
        error, step=step, import_id=format_id("imp", job.id), headers={**headers, **_location(job)}
    )
