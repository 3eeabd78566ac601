"""Signed webhooks from the providers: voice answers, call status, SMS, recordings.

One route for all of them: what a request means and how its answer is spelled is the adapter's.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from api_stub import problems
from api_stub.auth import Front
from api_stub.problems import ServiceUnavailable
from worker.domain.calls import CallbackKind, CallbackRequest
from worker.domain.errors import InvalidRequest, InvalidSignature, PayloadTooLarge
from worker.domain.values import ProviderName
from worker.service import ANSWER_HEADER, PROBE_HEADER

router: Final = APIRouter(tags=["callbacks"])


@router.post(
    "/callbacks/{provider}/{kind}/{number_id}",
    summary="Answer a provider",
    response_class=Response,
    responses={
        200: {
            "description": "What becomes of a call, in the provider's XML; or that a report was "
            "kept.",
            "content": {"application/xml": {}, "application/json": {}},
        },
        **problems.document(InvalidRequest, InvalidSignature, PayloadTooLarge, ServiceUnavailable),
    },
)
async def answer_provider(
    *, request: Request, service: Front, provider: ProviderName, kind: CallbackKind, number_id: str
) -> Response:
    """Answers a webhook of a provider; only what it signed for this number is heard."""
    asked = CallbackRequest(
        method=request.method,
        # Not the Host header, which anybody may send: what is signed is the URL that we gave out.
        url=service.public_base_url + _target(request),
        # One that comes several times is a list: https://www.rfc-editor.org/rfc/rfc9110#section-5.3
        headers={name: ", ".join(request.headers.getlist(name)) for name in request.headers},
        body=await request.body(),
    )
    nonce = asked.headers.get(PROBE_HEADER.lower())
    headers = {} if nonce is None else {ANSWER_HEADER: service.prove(nonce, asked.url)}
    try:
        done = await run_in_threadpool(service.answer_callback, provider, kind, number_id, asked)
    except (InvalidSignature, InvalidRequest) as error:
        return problems.answer(error, headers=headers)
    return Response(
        done.body,
        status_code=HTTPStatus.OK,
        headers={**headers, "content-type": done.content_type},
    )


def _target(request: Request) -> str:
    """Path and query to the letter: what was escaped differently was not signed either."""
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return (path + b"?" * bool(query) + query).decode("latin-1")
