"""The audit log: who did what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from api_stub import problems
from api_stub.auth import Auditor, Front
from api_stub.bodies import StrictRoute
from api_stub.routes._core import WRITES, PageQuery, answer, cut
from api_stub.schemas_directory import AuditOut, AuditPage

router = APIRouter(tags=["audit"], route_class=StrictRoute)


class AuditQuery(PageQuery):
    """Which entries to list."""

    action: str | None = Field(
        default=None, pattern=r"^[a-z_.]{1,64}$", examples=["key.create", "number.change"]
    )
    subject: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_]{1,64}$",
        description="The id of what it was done to, as we spell it.",
    )


@router.get(
    "/v1/audit",
    response_model=AuditPage,
    summary="List who did what",
    responses=problems.document(*WRITES),
)
def list_audit(service: Front, caller: Auditor, query: Annotated[AuditQuery, Query()]) -> Response:
    """Returns what was done in the organisation, newest first; entries are never changed."""
    found = service.list_audit(
        caller,
        limit=query.limit + 1,
        cursor=query.cursor,
        action=query.action,
        subject=query.subject,
    )
    items, following = cut(found, query.limit, "aud", AuditOut.from_record)
    return answer(AuditPage(items=items, next_cursor=following))
