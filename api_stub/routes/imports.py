"""Imports: submit one, follow it, list them, cancel, retry."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field, field_validator

from api_stub import problems
from api_stub.auth import Front, Importer, Looker, Reader, Starter
from api_stub.bodies import ImportBody, StrictRoute, read_credentials
from api_stub.routes._core import (
    ALWAYS,
    COUNTED,
    REPLAYED,
    WRITES,
    IdempotencyKey,
    PageQuery,
    answer,
    check_idempotency_key,
    cut,
)
from api_stub.routes._jobs import FAILURES, LOCATION, Prefer, accepted, outcome, watch_of
from api_stub.routes._looking import NO_SIGHT, look
from api_stub.schemas import (
    ImportPage,
    JobOut,
    JobSummary,
    NumberOut,
)
from api_stub.schemas_counts import ImportCounts
from api_stub.schemas_looks import PreflightOut
from api_stub.waiting import (
    LONGEST_WAIT_SECONDS,
    entity_tag,
    is_final,
    matches,
)
from worker.domain.errors import (
    AgentNotFound,
    AgentNotOwned,
    CredentialNotFound,
    CredentialNotOwned,
    IdempotencyKeyReused,
    InvalidPhoneNumber,
    InvalidState,
    NotFound,
    NumberAlreadyImported,
    PayloadTooLarge,
    SignaturesUnverifiable,
    SipTrunkProvisionFailed,
    UserNotFound,
)
from worker.domain.job import JobKind, JobState
from worker.domain.values import E164, ProviderName

router = APIRouter(tags=["imports"], route_class=StrictRoute)

#: What submit itself may refuse.
_REFUSALS: Final = (
    *COUNTED,
    InvalidPhoneNumber,
    SignaturesUnverifiable,
    CredentialNotFound,
    CredentialNotOwned,
    AgentNotFound,
    AgentNotOwned,
    UserNotFound,
    NumberAlreadyImported,
    PayloadTooLarge,
    IdempotencyKeyReused,
    SipTrunkProvisionFailed,
)
_NUMBER_LOCATION: Final = {
    "description": "Where the number is.",
    "schema": {"type": "string", "examples": ["/v1/phone-numbers/num_01890a5d…"]},
}
_ETAG: Final = {"description": "The job's version.", "schema": {"type": "string"}}


class ImportQuery(PageQuery):
    """Which imports to list."""

    kind: JobKind | None = None
    status: JobState | None = None
    provider: ProviderName | None = None
    phone_number: str | None = Field(default=None, examples=["+14155550100"])
    batch: str | None = Field(default=None, description="Only those that came with this batch.")

    @field_validator("phone_number")
    @classmethod
    def _is_e164(cls, value: str | None) -> str | None:
        # An unescaped plus in a query is a space: everybody's first try.
        return value if value is None else E164.parse(value.replace(" ", "+", 1))


@router.post(
    "/v1/imports",
    status_code=HTTPStatus.ACCEPTED,
    response_model=JobOut,
    summary="Import a number",
    responses={
        201: {
            "model": NumberOut,
            "description": "With `Prefer: wait`: the import became active in time.",
            "headers": {"Location": _NUMBER_LOCATION, "Idempotent-Replayed": REPLAYED},
        },
        202: {
            "description": "Accepted; follow it at the Location.",
            "headers": {"Location": LOCATION, "Idempotent-Replayed": REPLAYED},
        },
        **problems.document(*_REFUSALS, *FAILURES),
    },
)
async def submit_import(
    *,
    request: Request,
    service: Front,
    caller: Starter,
    body: ImportBody,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Stores the import and answers at once; workers do the rest.

    With `Prefer: wait=20` the answer is held until the import ends: 201 with the number, or the
    problem that ended it, under that problem's own status. If time is up first: 202, as without.
    """
    check_idempotency_key(idempotency_key)
    if body.credentials is not None:
        read = read_credentials(body.provider, body.credentials)
        body = body.model_copy(update={"credentials": read})
    submitted = await run_in_threadpool(
        service.submit, caller, body, idempotency_key=idempotency_key
    )
    job = submitted.job
    headers = {} if submitted.created else {"Idempotent-Replayed": "true"}
    return await outcome(request, service, caller, job, headers=headers, prefer=prefer)


@router.post(
    "/v1/imports/preflight",
    response_model=PreflightOut,
    summary="Try an import without doing it",
    responses=problems.document(
        *COUNTED, InvalidPhoneNumber, SipTrunkProvisionFailed, PayloadTooLarge, *NO_SIGHT
    ),
)
async def preflight_import(
    *, request: Request, service: Front, caller: Looker, body: ImportBody
) -> Response:
    """Takes what an import takes and changes nothing: neither here nor at the provider.

    Tells every change that the import would make, object by object, everything that would refuse
    it, all at once, and what its owner should know.
    """
    if body.credentials is not None:
        read = read_credentials(body.provider, body.credentials)
        body = body.model_copy(update={"credentials": read})
    found = await look(request, partial(service.preflight, caller, body))
    return answer(PreflightOut.from_record(found))


# Before the route of a single import, which would take the word for an id.
@router.get(
    "/v1/imports/counts",
    response_model=ImportCounts,
    summary="Count imports",
    responses=problems.document(*ALWAYS),
)
def count_imports(service: Front, caller: Reader) -> Response:
    """Returns how many of the organisation's jobs are in each state.

    Cheap at any number of jobs: those that are open are counted, and of the rest those that ended
    since `ended_since`.
    """
    return answer(ImportCounts.from_record(service.tally_imports(caller)))


@router.get(
    "/v1/imports/{import_id}",
    response_model=JobOut,
    summary="Follow an import",
    responses={
        200: {"headers": {"ETag": _ETAG}},
        304: {"description": "It is as the If-None-Match says.", "headers": {"ETag": _ETAG}},
        **problems.document(*ALWAYS, NotFound),
    },
)
async def read_import(
    *,
    request: Request,
    service: Front,
    caller: Reader,
    import_id: str,
    wait: Annotated[
        int,
        Query(
            ge=0,
            le=LONGEST_WAIT_SECONDS,
            description="Seconds to wait for a change, or, without If-None-Match, for the end.",
        ),
    ] = 0,
    if_none_match: Annotated[
        list[str] | None,
        Header(alias="If-None-Match", description="ETag of the version that is known already."),
    ] = None,
) -> Response:
    """Returns an import step by step, with attempts, times and errors.

    To follow it, repeat `?wait=20` with the last ETag in `If-None-Match`: each answer is either a
    change or a 304.
    """
    known: Sequence[str] = if_none_match or ()

    def reached(version: int, state: JobState) -> bool:
        return not matches(known, entity_tag(version)) if known else is_final(version, state)

    job = await run_in_threadpool(service.get_import, caller, import_id)
    if wait and not reached(job.version, job.state):
        await watch_of(request).until(reached, job.id, seconds=wait, request=request)
        job = await run_in_threadpool(service.get_import, caller, import_id)
    # A cache may keep it, but has to ask each time.
    headers = {"ETag": entity_tag(job.version), "Cache-Control": "private, no-cache"}
    if matches(known, headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return answer(JobOut.from_record(job), headers=headers)


@router.get(
    "/v1/imports",
    response_model=ImportPage,
    summary="List imports",
    responses=problems.document(*ALWAYS, InvalidPhoneNumber),
)
def list_imports(
    service: Front, caller: Reader, query: Annotated[ImportQuery, Query()]
) -> Response:
    """Returns the organisation's imports, newest first, without their steps."""
    found = service.list_imports(
        caller,
        limit=query.limit + 1,
        cursor=query.cursor,
        kind=query.kind,
        status=query.status,
        provider=query.provider,
        phone_number=query.phone_number,
        batch=query.batch,
    )
    items, following = cut(found, query.limit, "imp", JobSummary.from_record)
    return answer(ImportPage(items=items, next_cursor=following))


@router.post(
    "/v1/imports/{import_id}/cancel",
    status_code=HTTPStatus.ACCEPTED,
    response_model=JobOut,
    summary="Cancel an import",
    responses={
        202: {"headers": {"Location": LOCATION}},
        **problems.document(*WRITES, NotFound, InvalidState),
    },
)
def cancel_import(service: Front, caller: Importer, import_id: str) -> Response:
    """Stops an import that has not ended and undoes what it did."""
    return accepted(service.cancel(caller, import_id))


@router.post(
    "/v1/imports/{import_id}/retry",
    status_code=HTTPStatus.ACCEPTED,
    response_model=JobOut,
    summary="Retry an import",
    responses={
        202: {"headers": {"Location": LOCATION}},
        **problems.document(
            *COUNTED, NotFound, CredentialNotFound, InvalidState, NumberAlreadyImported
        ),
    },
)
def retry_import(service: Front, caller: Starter, import_id: str) -> Response:
    """Starts a failed or cancelled import again, or goes on with the undo of a stuck one."""
    return accepted(service.retry(caller, import_id))
