"""API keys: each is shown once, when it is made."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from api_stub import problems
from api_stub.auth import Front, KeyManager
from api_stub.bodies import StrictRoute
from api_stub.routes._core import WRITES, PageQuery, answer, cut
from api_stub.schemas_directory import KeyBody, KeyOut, KeyPage, NewKeyOut
from worker.domain.errors import LastAdminKey, NotFound, PayloadTooLarge

router = APIRouter(tags=["API keys"], route_class=StrictRoute)


@router.post(
    "/v1/api-keys",
    status_code=HTTPStatus.CREATED,
    response_model=NewKeyOut,
    summary="Make an API key",
    responses=problems.document(*WRITES, PayloadTooLarge),
)
def create_key(service: Front, caller: KeyManager, body: KeyBody) -> Response:
    """Makes a key of your organisation. Keep it: only this answer ever holds it."""
    document = NewKeyOut.from_new(service.create_key(caller, name=body.name, role=body.role))
    # A secret: no cache may keep it.
    return answer(document, HTTPStatus.CREATED, {"Cache-Control": "no-store"})


@router.get(
    "/v1/api-keys",
    response_model=KeyPage,
    summary="List API keys",
    responses=problems.document(*WRITES),
)
def list_keys(service: Front, caller: KeyManager, query: Annotated[PageQuery, Query()]) -> Response:
    """Returns the organisation's keys without their secrets, newest first, also revoked ones."""
    found = service.list_keys(caller, limit=query.limit + 1, cursor=query.cursor)
    items, following = cut(found, query.limit, "key", KeyOut.from_record)
    return answer(KeyPage(items=items, next_cursor=following))


@router.delete(
    "/v1/api-keys/{key_id}",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    summary="Revoke an API key",
    responses=problems.document(*WRITES, NotFound, LastAdminKey),
)
def revoke_key(service: Front, caller: KeyManager, key_id: str) -> Response:
    """Makes the key useless from its next request on, for good. The last admin's key stays."""
    service.revoke_key(caller, key_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)
