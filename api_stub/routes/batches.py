"""Batches: submit many imports at once, follow them, cancel what has not ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from api_stub import problems
from api_stub.auth import Batcher, Front, Importer, Reader
from api_stub.bodies import ImportBody, parse_json, require_plain
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
from api_stub.schemas import FieldError
from api_stub.schemas_batches import BatchBody, BatchOut, BatchPage, BatchSummary, RowStatus
from worker.domain.errors import IdempotencyKeyReused, InvalidState, NotFound, PayloadTooLarge
from worker.domain.values import format_id
from worker.service import (
    BatchRecord,
    BatchRequest,
    Caller,
    Service,
    read_batch_csv,
    read_batch_json,
)

router = APIRouter(tags=["batches"])

#: Batches that a process reads at the same time: each keeps a thread busy for seconds.
_AT_ONCE: Final = 2
#: Values in the JSON of a batch: a hundred for each of its rows. An empty list takes two bytes of a
#: body and sixty of memory.
_MOST_VALUES: Final = 1_000_000
_reading: Final = CapacityLimiter(_AT_ONCE)
_LOCATION: Final = {
    "description": "Where the batch is.",
    "schema": {"type": "string", "examples": ["/v1/batches/bat_01890a5d…"]},
}
_CSV_EXAMPLE: Final = (
    "phone_number,provider,credential_id,friendly_name,inbound.room_pattern\r\n"
    '+14155550100,twilio,cred_01890a5d000070008000000000000003,"Desk, front",call-\r\n'
)


def _schema() -> dict[str, Any]:
    """The schema of the JSON body; what it refers to is that of single imports."""
    schema = BatchBody.model_json_schema(ref_template="#/components/schemas/{model}")
    item: dict[str, Any] = schema.pop("$defs")[ImportBody.__name__]
    # What one leaves out is the defaults' to give.
    for word in ("required", "examples"):
        del item[word]
    item["title"] = "BatchItem"
    item["description"] = "Fields of an import. One that is wrong is refused alone, in the answer."
    schema["properties"]["items"]["items"] = item
    return schema


_BODY: Final[Mapping[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _schema()},
            "text/csv": {"schema": {"type": "string"}, "example": _CSV_EXAMPLE},
        },
    }
}


class BatchQuery(PageQuery):
    """Which numbers of a batch to show."""

    status: RowStatus | None = None


@router.post(
    "/v1/batches",
    status_code=HTTPStatus.ACCEPTED,
    response_model=BatchOut,
    summary="Import many numbers",
    openapi_extra=dict(_BODY),
    responses={
        202: {
            "description": "Accepted; follow it at the Location.",
            "headers": {"Location": _LOCATION, "Idempotent-Replayed": REPLAYED},
        },
        **problems.document(*COUNTED, PayloadTooLarge, IdempotencyKeyReused),
    },
)
async def submit_batch(
    *, request: Request, service: Front, caller: Batcher, idempotency_key: IdempotencyKey = None
) -> Response:
    """Stores up to 10,000 imports, as JSON or as CSV, and answers at once; workers begin them.

    A wrong row is refused alone: it is in the answer with its line, code and message. In CSV the
    first line names the fields, nested ones with a dot (`inbound.room_pattern`,
    `credentials.auth_token`, `metadata.order`), and an empty cell is a field that is not given.
    The numbers of one provider account are imported a few at a time, so that they stay below its
    rate limits; an import that is sent alone does not wait for them.
    """
    check_idempotency_key(idempotency_key)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    read = _READERS.get(media_type)
    if read is None:
        message = f"Must be one of {', '.join(_READERS)}."
        raise problems.InvalidFields(FieldError(field="Content-Type", message=message))
    try:
        require_plain(request.headers)
    except ValueError as error:
        raise problems.InvalidFields(FieldError(field="body", message=str(error))) from None
    try:
        body = await request.body()
    except ClientDisconnect:
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # for nobody
    work = partial(_submit, service, caller, read, body, idempotency_key)
    return await anyio.to_thread.run_sync(work, limiter=_reading)


@router.get(
    "/v1/batches",
    response_model=BatchPage,
    summary="List batches",
    responses=problems.document(*ALWAYS),
)
def list_batches(service: Front, caller: Reader, query: Annotated[PageQuery, Query()]) -> Response:
    """Returns the organisation's batches, newest first, without their numbers."""
    found = service.list_batches(caller, limit=query.limit + 1, cursor=query.cursor)
    items, following = cut(found, query.limit, "bat", BatchSummary.from_record)
    return answer(BatchPage(items=items, next_cursor=following))


@router.get(
    "/v1/batches/{batch_id}",
    response_model=BatchOut,
    summary="Follow a batch",
    responses=problems.document(*ALWAYS, NotFound),
)
def read_batch(
    service: Front, caller: Reader, batch_id: str, query: Annotated[BatchQuery, Query()]
) -> Response:
    """Returns how many of a batch's imports are where, and its numbers in the order of the file.

    `GET /v1/imports?batch=…` lists the imports themselves.
    """
    batch = service.get_batch(caller, batch_id)
    return answer(_shown(service, batch, query))


@router.post(
    "/v1/batches/{batch_id}/cancel",
    status_code=HTTPStatus.ACCEPTED,
    response_model=BatchOut,
    summary="Cancel a batch",
    responses={
        202: {"headers": {"Location": _LOCATION}},
        **problems.document(*WRITES, NotFound, InvalidState),
    },
)
def cancel_batch(service: Front, caller: Importer, batch_id: str) -> Response:
    """Stops every import of a batch that has not ended and undoes what it did.

    Numbers that are imported already stay imported.
    """
    return _accepted(service, service.cancel_batch(caller, batch_id), {})


def _submit(
    service: Service,
    caller: Caller,
    read: Callable[[bytes], BatchRequest],
    body: bytes,
    idempotency_key: str | None,
) -> Response:
    submitted = service.submit_batch(caller, read(body), idempotency_key=idempotency_key)
    headers = {} if submitted.created else {"Idempotent-Replayed": "true"}
    return _accepted(service, submitted.batch, headers)


def _read_json(body: bytes) -> BatchRequest:
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        message = "The body has too many values: send several batches."
        raise problems.InvalidFields(FieldError(field="body", message=message))
    try:
        document = parse_json(body)
    except ValueError as error:
        raise problems.InvalidFields(FieldError(field="body", message=str(error))) from None
    return read_batch_json(document)


_READERS: Final[Mapping[str, Callable[[bytes], BatchRequest]]] = {
    "application/json": _read_json,
    "text/csv": read_batch_csv,
}


def _accepted(service: Service, batch: BatchRecord, headers: Mapping[str, str]) -> Response:
    location = {"Location": f"/v1/batches/{format_id('bat', batch.id)}"}
    shown = _shown(service, batch, BatchQuery())
    return answer(shown, HTTPStatus.ACCEPTED, {**location, **headers})


def _shown(service: Service, batch: BatchRecord, query: BatchQuery) -> BatchOut:
    rows = service.list_batch_rows(
        batch, limit=query.limit + 1, cursor=query.cursor, status=query.status
    )
    return BatchOut.from_records(batch, rows, query.limit)
