"""Agents: who answers numbers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, cast

from fastapi import APIRouter, Query, Response

from api_stub import problems
from api_stub.auth import DirectoryManager, Front, Reader
from api_stub.bodies import StrictRoute
from api_stub.routes._core import ALWAYS, WRITES, PageQuery, answer, cut
from api_stub.schemas_directory import AgentBody, AgentChangeBody, AgentOut, AgentPage
from worker.domain.errors import (
    AgentInUse,
    AgentNotFound,
    AgentNotOwned,
    ExternalIdTaken,
    PayloadTooLarge,
)
from worker.service import AgentChange

router = APIRouter(tags=["agents"], route_class=StrictRoute)


@router.post(
    "/v1/agents",
    status_code=HTTPStatus.CREATED,
    response_model=AgentOut,
    summary="Make an agent",
    responses=problems.document(*WRITES, ExternalIdTaken, PayloadTooLarge),
)
def create_agent(service: Front, caller: DirectoryManager, body: AgentBody) -> Response:
    """Makes an agent; imports then name it by `agent_id`, or as the fallback agent."""
    agent_id = service.create_agent(
        caller,
        name=body.name,
        dispatch_name=body.dispatch_name,
        external_id=body.external_id,
    )
    document = AgentOut.from_record(service.get_agent(caller, agent_id))
    return answer(document, HTTPStatus.CREATED, {"Location": f"/v1/agents/{agent_id}"})


@router.get(
    "/v1/agents",
    response_model=AgentPage,
    summary="List agents",
    responses=problems.document(*ALWAYS),
)
def list_agents(service: Front, caller: Reader, query: Annotated[PageQuery, Query()]) -> Response:
    """Returns the organisation's agents, newest first."""
    found = service.list_agents(caller, limit=query.limit + 1, cursor=query.cursor)
    items, following = cut(found, query.limit, "agt", AgentOut.from_record)
    return answer(AgentPage(items=items, next_cursor=following))


@router.get(
    "/v1/agents/{agent_id}",
    response_model=AgentOut,
    summary="Read an agent",
    responses=problems.document(*ALWAYS, AgentNotFound, AgentNotOwned),
)
def read_agent(service: Front, caller: Reader, agent_id: str) -> Response:
    """Returns an agent by its id, a UUID, or your own `external_id` of it."""
    return answer(AgentOut.from_record(service.get_agent(caller, agent_id)))


@router.patch(
    "/v1/agents/{agent_id}",
    response_model=AgentOut,
    summary="Change an agent",
    responses=problems.document(
        *WRITES, AgentNotFound, AgentNotOwned, ExternalIdTaken, PayloadTooLarge
    ),
)
def change_agent(
    service: Front, caller: DirectoryManager, agent_id: str, body: AgentChangeBody
) -> Response:
    """Changes what is given: what is left out stays, null clears.

    Numbers that are set up go on calling the `dispatch_name` of before: keep workers under it until
    each of them is set up again, by `POST /v1/phone-numbers/{id}/check?repair=true` or by a PATCH
    that gives the number to another agent.
    """
    change = cast("AgentChange", body.model_dump(exclude_unset=True))
    return answer(AgentOut.from_record(service.change_agent(caller, agent_id, change)))


@router.delete(
    "/v1/agents/{agent_id}",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    summary="Delete an agent",
    responses=problems.document(*WRITES, AgentNotFound, AgentNotOwned, AgentInUse),
)
def delete_agent(service: Front, caller: DirectoryManager, agent_id: str) -> Response:
    """Deletes an agent that answers no number, not even as a fallback."""
    service.delete_agent(caller, agent_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)
