"""The caller's own organisation. Others are made by the operator, and nobody else sees them."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api_stub import problems
from api_stub.auth import Front, OrganizationManager, Reader
from api_stub.bodies import StrictRoute
from api_stub.routes._core import ALWAYS, WRITES, answer
from api_stub.schemas_directory import OrganizationChange, OrganizationOut
from worker.domain.errors import NotFound, PayloadTooLarge

router = APIRouter(tags=["organisations"], route_class=StrictRoute)


@router.get(
    "/v1/organizations/{organization_id}",
    response_model=OrganizationOut,
    summary="Read your organisation",
    responses=problems.document(*ALWAYS, NotFound),
)
def read_organization(service: Front, caller: Reader, organization_id: str) -> Response:
    """Returns the key's own organisation, by its id or as `current`."""
    return answer(OrganizationOut.from_record(service.get_organization(caller, organization_id)))


@router.patch(
    "/v1/organizations/{organization_id}",
    response_model=OrganizationOut,
    summary="Rename your organisation",
    responses=problems.document(*WRITES, NotFound, PayloadTooLarge),
)
def rename_organization(
    service: Front, caller: OrganizationManager, organization_id: str, body: OrganizationChange
) -> Response:
    """Changes the name that it goes by here; the operator goes on finding it by the old one."""
    record = service.rename_organization(caller, organization_id, name=body.name)
    return answer(OrganizationOut.from_record(record))
