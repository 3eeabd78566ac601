"""Numbers that are imported and active."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api_stub import problems
from api_stub.auth import Front, Reader
from api_stub.routes._core import ALWAYS, PageQuery, answer, cut
from api_stub.schemas import NumberOut, NumberPage
from worker.domain.errors import NotFound

router = APIRouter(tags=["phone numbers"])


@router.get(
    "/v1/phone-numbers",
    response_model=NumberPage,
    summary="List numbers",
    responses=problems.document(*ALWAYS),
)
def list_numbers(service: Front, caller: Reader, query: Annotated[PageQuery, Query()]) -> Response:
    """Returns the organisation's active numbers, newest first."""
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
    """Returns an active number with what was made for it."""
    return answer(NumberOut.from_record(service.get_number(caller, number_id)))
