"""Imported numbers: list, read, change, check, release; and what came in for them."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from api_stub import problems
from api_stub.auth import Front, Looker, Reader, Starter
from api_stub.bodies import NumberBody, StrictRoute
from api_stub.routes._core import ALWAYS, COUNTED, PageQuery, answer, cut
from api_stub.routes._jobs import FAILURES, LOCATION, Prefer, outcome
from api_stub.routes._looking import NO_SIGHT, look
from api_stub.schemas import EventOut, EventPage, JobOut, NumberOut, NumberPage
from api_stub.schemas_looks import DiagnosisOut
from worker.domain.calls import EventKind
from worker.domain.errors import (
    AgentNotFound,
    AgentNotOwned,
    NotFound,
    NumberBusy,
    PayloadTooLarge,
)
from worker.service import JobRecord

router = APIRouter(tags=["phone numbers"], route_class=StrictRoute)


class EventQuery(PageQuery):
    """Which events to list."""

    kind: EventKind | None = None


@router.get(
    "/v1/phone-numbers",
    response_model=NumberPage,
    summary="List numbers",
    responses=problems.document(*ALWAYS),
)
def list_numbers(service: Front, caller: Reader, query: Annotated[PageQuery, Query()]) -> Response:
    """Returns the organisation's numbers, newest first."""
    found = service.list_numbers(caller, limit=query.limit + 1, cursor=query.cursor)
    items, following = cut(found, query.limit, "num", NumberOut.from_record)
    return answer(NumberPage(items=items, next_cursor=following))


@router.get(
    "/v1/phone-numbers/{number_id}",
    response_model=NumberOut,
    summary="Read a number",
    responses=problems.document(*ALWAYS, NotFound),
)
def read_number(service: Front, caller: Reader, number_id: str) -> Response:
    """Returns a number with what was made for it."""
    return answer(NumberOut.from_record(service.get_number(caller, number_id)))


@router.patch(
    "/v1/phone-numbers/{number_id}",
    response_model=NumberOut,
    summary="Change a number",
    responses={
        202: {
            "model": JobOut,
            "description": "What reaches LiveKit is done by this job.",
            "headers": {"Location": LOCATION},
        },
        **problems.document(
            *COUNTED, NotFound, NumberBusy, AgentNotFound, AgentNotOwned, PayloadTooLarge, *FAILURES
        ),
    },
)
async def change_number(
    *,
    request: Request,
    service: Front,
    caller: Starter,
    number_id: str,
    body: NumberBody,
    prefer: Prefer = None,
) -> Response:
    """Gives calls to another agent, or changes how they reach it; what is left out stays.

    The number goes on answering: until the job has ended calls go where they went before, and from
    then on where they are to go. A job that fails leaves the number as it was.
    """
    done = await run_in_threadpool(service.change_number, caller, number_id, body)
    if isinstance(done, JobRecord):
        return await outcome(request, service, caller, done, headers={}, prefer=prefer)
    return answer(NumberOut.from_record(done))


@router.delete(
    "/v1/phone-numbers/{number_id}",
    status_code=HTTPStatus.ACCEPTED,
    response_model=JobOut,
    summary="Release a number",
    responses={
        200: {
            "model": JobOut,
            "description": "With `Prefer: wait`: it was released in time.",
            "headers": {"Location": LOCATION},
        },
        202: {"headers": {"Location": LOCATION}},
        **problems.document(*COUNTED, NotFound, NumberBusy, *FAILURES),
    },
)
async def release_number(
    *, request: Request, service: Front, caller: Starter, number_id: str, prefer: Prefer = None
) -> Response:
    """Gives the number back: its routing as it was before the import, and nothing of ours left.

    It stays the customer's at the provider. What was pointed elsewhere since is left alone. A
    release that cannot be completed is `stuck` and says what needs a hand.
    """
    job = await run_in_threadpool(service.release, caller, number_id)
    return await outcome(request, service, caller, job, headers={}, prefer=prefer)


@router.post(
    "/v1/phone-numbers/{number_id}/check",
    response_model=DiagnosisOut,
    summary="Find out why a number does not ring",
    responses={
        202: {
            "model": JobOut,
            "description": "With `repair=true`: this job puts right what was found.",
            "headers": {"Location": LOCATION},
        },
        **problems.document(*COUNTED, NotFound, NumberBusy, *FAILURES, *NO_SIGHT),
    },
)
async def check_number(
    *,
    request: Request,
    service: Front,
    caller: Looker,
    number_id: str,
    repair: Annotated[
        bool, Query(description="Whether a job is to put right what can be put right.")
    ] = False,
    prefer: Prefer = None,
) -> Response:
    """Compares everything at the provider and at LiveKit with what was set, and calls our own URL.

    One verdict, one sentence that says why calls would not arrive, and each difference with its
    field, what was expected and what was found. Nothing is changed, unless a repair is asked for.
    """
    diagnosis = await look(request, partial(service.check_number, caller, number_id))
    if not repair or not diagnosis.repairable:
        return answer(DiagnosisOut.from_record(diagnosis))
    job = await run_in_threadpool(service.repair, caller, number_id)
    return await outcome(request, service, caller, job, headers={}, prefer=prefer)


@router.get(
    "/v1/phone-numbers/{number_id}/events",
    response_model=EventPage,
    summary="List what a number received",
    responses=problems.document(*ALWAYS, NotFound),
)
def list_events(
    service: Front, caller: Reader, number_id: str, query: Annotated[EventQuery, Query()]
) -> Response:
    """Returns call status, SMS and recording events, newest first, each once."""
    found = service.list_events(
        caller, number_id, limit=query.limit + 1, cursor=query.cursor, kind=query.kind
    )
    items, following = cut(found, query.limit, "evt", EventOut.from_record)
    return answer(EventPage(items=items, next_cursor=following))
