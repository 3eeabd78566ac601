"""What the routes share: answers, pages, and the problems that every one of them may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, Protocol, TypeVar
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from api_stub.problems import ServiceUnavailable
from worker.domain.errors import Forbidden, InvalidRequest, Unauthenticated
from worker.domain.values import format_id

_Out = TypeVar("_Out", bound=BaseModel)


class _HasId(Protocol):
    @property
    def id(self) -> UUID: ...


_Record = TypeVar("_Record", bound=_HasId)

#: Any route that needs a key.
ALWAYS: Final = (InvalidRequest, Unauthenticated, ServiceUnavailable)
#: Any route that changes something.
WRITES: Final = (*ALWAYS, Forbidden)


class PageQuery(BaseModel):
    """Which page of a list; a parameter that is not known is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=200, description="How many to return at most.")
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before.")


def answer(
    document: BaseModel,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Returns a document as a response; FastAPI would validate it a second time."""
    return Response(
        document.model_dump_json(),
        status_code=status,
        media_type="application/json",
        headers=dict(headers or {}),
    )


def cut(
    found: Sequence[_Record], limit: int, prefix: str, form: Callable[[_Record], _Out]
) -> tuple[list[_Out], str | None]:
    """Returns a page of what was found, and the cursor of the next one.

    One more than the limit was asked for: if it came, there is a next page.
    """
    page = found[:limit]
    more = len(found) > limit
    return [form(one) for one in page], format_id(prefix, page[-1].id) if more else None
