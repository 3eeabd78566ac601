"""Stored provider accounts: secrets go in and never come out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from api_stub import problems
from api_stub.auth import Front, Importer, Reader
from api_stub.bodies import CredentialBody, StrictRoute, read_credentials
from api_stub.routes._core import ALWAYS, WRITES, PageQuery, answer, cut
from api_stub.schemas import CredentialOut, CredentialPage
from worker.domain.errors import (
    CredentialInUse,
    CredentialNotFound,
    CredentialNotOwned,
    PayloadTooLarge,
)

router = APIRouter(tags=["credentials"], route_class=StrictRoute)


@router.post(
    "/v1/credentials",
    status_code=HTTPStatus.CREATED,
    response_model=CredentialOut,
    summary="Store a provider account",
    responses=problems.document(*WRITES, PayloadTooLarge),
)
def create_credential(service: Front, caller: Importer, body: CredentialBody) -> Response:
    """Encrypts and stores the secrets; imports then name the account by its id."""
    record = service.create_credential(
        caller,
        provider=body.provider,
        credentials=read_credentials(body.provider, body.credentials),
        label=body.label,
    )
    document = CredentialOut.from_record(record)
    location = {"Location": f"/v1/credentials/{document.id}"}
    return answer(document, HTTPStatus.CREATED, location)


@router.get(
    "/v1/credentials",
    response_model=CredentialPage,
    summary="List stored provider accounts",
    responses=problems.document(*ALWAYS),
)
def list_credentials(
    service: Front, caller: Reader, query: Annotated[PageQuery, Query()]
) -> Response:
    """Returns the organisation's stored accounts, newest first, without their secrets."""
    found = service.list_credentials(caller, limit=query.limit + 1, cursor=query.cursor)
    items, following = cut(found, query.limit, "cred", CredentialOut.from_record)
    return answer(CredentialPage(items=items, next_cursor=following))


@router.get(
    "/v1/credentials/{credential_id}",
    response_model=CredentialOut,
    summary="Read a provider account",
    responses=problems.document(*ALWAYS, CredentialNotFound, CredentialNotOwned),
)
def read_credential(service: Front, caller: Reader, credential_id: str) -> Response:
    """Returns an account without its secrets."""
    return answer(CredentialOut.from_record(service.get_credential(caller, credential_id)))


@router.delete(
    "/v1/credentials/{credential_id}",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    summary="Forget a provider account",
    responses=problems.document(*WRITES, CredentialNotFound, CredentialNotOwned, CredentialInUse),
)
def delete_credential(service: Front, caller: Importer, credential_id: str) -> Response:
    """Deletes the secrets for good, unless a number or an unfinished import needs them."""
    service.delete_credential(caller, credential_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)
