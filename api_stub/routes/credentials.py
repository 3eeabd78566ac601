"""Stored provider accounts: secrets go in and never come out."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from api_stub import problems
from api_stub.auth import Front, Importer, Looker, Reader
from api_stub.bodies import CredentialBody, CredentialChange, StrictRoute, read_credentials
from api_stub.routes._core import ALWAYS, COUNTED, WRITES, PageQuery, answer, cut
from api_stub.routes._looking import NO_SIGHT, look
from api_stub.schemas import CredentialOut, CredentialPage
from api_stub.schemas_looks import AccountNumberOut, AccountNumberPage
from worker.domain.errors import (
    CredentialInUse,
    CredentialNotFound,
    CredentialNotOwned,
    PayloadTooLarge,
    SignaturesUnverifiable,
)
from worker.domain.values import ProviderName


class AccountQuery(BaseModel):
    """Which page of an account's numbers."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=100, description="How many to return at most.")
    cursor: str | None = Field(
        default=None, max_length=1000, description="`next_cursor` of the page before."
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


@router.patch(
    "/v1/credentials/{credential_id}",
    response_model=CredentialOut,
    summary="Rotate a provider account's secrets",
    responses=problems.document(
        *COUNTED,
        CredentialNotFound,
        CredentialNotOwned,
        PayloadTooLarge,
        SignaturesUnverifiable,
        *NO_SIGHT,
    ),
)
async def rotate_credential(
    *,
    request: Request,
    service: Front,
    caller: Looker,
    credential_id: str,
    body: CredentialChange,
) -> Response:
    """Replaces the secrets once the provider accepts the new ones; no number is imported again.

    They must open the same account. Webhooks signed with the replaced secret are answered for
    `overlap_seconds` more: give the new token here first, then make it the primary one.
    """
    record = await run_in_threadpool(service.get_credential, caller, credential_id)
    credentials = None
    if body.credentials is not None:
        credentials = read_credentials(ProviderName(record.provider), body.credentials)
    rotated, warnings = await look(
        request,
        partial(
            service.rotate_credential,
            caller,
            credential_id,
            credentials=credentials,
            label=body.label,
            overlap_seconds=body.overlap_seconds,
        ),
    )
    return answer(CredentialOut.from_record(rotated, warnings))


@router.get(
    "/v1/credentials/{credential_id}/numbers",
    response_model=AccountNumberPage,
    summary="List the numbers of a provider account",
    responses=problems.document(*COUNTED, CredentialNotFound, CredentialNotOwned, *NO_SIGHT),
)
async def list_account_numbers(
    *,
    request: Request,
    service: Front,
    caller: Looker,
    credential_id: str,
    query: Annotated[AccountQuery, Query()],
) -> Response:
    """Asks the provider: each number, what it can, who answers it now, and whether to import it.

    A page may hold fewer than asked for; `next_cursor` says whether there are more.
    """
    page = await look(
        request,
        partial(
            service.list_account_numbers,
            caller,
            credential_id,
            limit=query.limit,
            cursor=query.cursor,
        ),
    )
    items = [AccountNumberOut.from_record(one) for one in page.numbers]
    return answer(AccountNumberPage(items=items, next_cursor=page.following))


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
