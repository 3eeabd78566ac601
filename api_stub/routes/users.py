"""Users: whom numbers belong to."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, cast

from fastapi import APIRouter, Query, Response

from api_stub import problems
from api_stub.auth import DirectoryManager, Front, Reader
from api_stub.bodies import StrictRoute
from api_stub.routes._core import ALWAYS, WRITES, PageQuery, answer, cut
from api_stub.schemas_directory import UserBody, UserChangeBody, UserOut, UserPage
from worker.domain.errors import ExternalIdTaken, PayloadTooLarge, UserInUse, UserNotFound
from worker.service import UserChange

router = APIRouter(tags=["users"], route_class=StrictRoute)


@router.post(
    "/v1/users",
    status_code=HTTPStatus.CREATED,
    response_model=UserOut,
    summary="Make a user",
    responses=problems.document(*WRITES, ExternalIdTaken, PayloadTooLarge),
)
def create_user(service: Front, caller: DirectoryManager, body: UserBody) -> Response:
    """Makes a user; imports then name them by `user_id`."""
    user_id = service.create_user(caller, name=body.name, external_id=body.external_id)
    document = UserOut.from_record(service.get_user(caller, user_id))
    return answer(document, HTTPStatus.CREATED, {"Location": f"/v1/users/{user_id}"})


@router.get(
    "/v1/users",
    response_model=UserPage,
    summary="List users",
    responses=problems.document(*ALWAYS),
)
def list_users(service: Front, caller: Reader, query: Annotated[PageQuery, Query()]) -> Response:
    """Returns the organisation's users, newest first."""
    found = service.list_users(caller, limit=query.limit + 1, cursor=query.cursor)
    items, following = cut(found, query.limit, "usr", UserOut.from_record)
    return answer(UserPage(items=items, next_cursor=following))


@router.get(
    "/v1/users/{user_id}",
    response_model=UserOut,
    summary="Read a user",
    responses=problems.document(*ALWAYS, UserNotFound),
)
def read_user(service: Front, caller: Reader, user_id: str) -> Response:
    """Returns a user by its id, a UUID, or your own `external_id` of them."""
    return answer(UserOut.from_record(service.get_user(caller, user_id)))


@router.patch(
    "/v1/users/{user_id}",
    response_model=UserOut,
    summary="Change a user",
    responses=problems.document(*WRITES, UserNotFound, ExternalIdTaken, PayloadTooLarge),
)
def change_user(
    service: Front, caller: DirectoryManager, user_id: str, body: UserChangeBody
) -> Response:
    """Changes what is given: what is left out stays, null clears."""
    change = cast("UserChange", body.model_dump(exclude_unset=True))
    return answer(UserOut.from_record(service.change_user(caller, user_id, change)))


@router.delete(
    "/v1/users/{user_id}",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
    summary="Delete a user",
    responses=problems.document(*WRITES, UserNotFound, UserInUse),
)
def delete_user(service: Front, caller: DirectoryManager, user_id: str) -> Response:
    """Deletes a user to whom no number belongs; their `external_id` may be given again."""
    service.delete_user(caller, user_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)
