"""What the routes share: answers, pages, and the problems that every one of them may answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Final, Protocol, TypeVar
from uuid import UUID

from fastapi import Header, Response
from pydantic import BaseModel, ConfigDict, Field

from api_stub.problems import InvalidFields, ServiceUnavailable
from api_stub.schemas import FieldError
from worker.domain.errors import Forbidden, InvalidRequest, RateLimited, Unauthenticated
from worker.domain.values import format_id

_Out = TypeVar("_Out", bound=BaseModel)


class _HasId(Protocol):
    @property
    def id(self) -> UUID: ...


_Record = TypeVar("_Record", bound=_HasId)

_VISIBLE: Final = re.compile(r"[!-~]{1,255}")
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="1 to 255 visible ASCII characters. The same key and body give the same "
        "answer, and nothing twice; the same key with another body is refused.",
        # Said, not enforced: check_idempotency_key refuses in our words.
        json_schema_extra={"pattern": f"^{_VISIBLE.pattern}$"},
    ),
]
REPLAYED: Final = {
    "description": "`true` if an earlier request with the same Idempotency-Key made it.",
    "schema": {"type": "string"},
}

#: Any route that needs a key.
ALWAYS: Final = (InvalidRequest, Unauthenticated, ServiceUnavailable)
#: Any route that changes something.
WRITES: Final = (*ALWAYS, Forbidden)
#: Any route that an allowance counts.
COUNTED: Final = (*WRITES, RateLimited)


class PageQuery(BaseModel):
    """Which page of a list; a parameter that is not known is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=200, description="How many to return at most.")
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before.")


def check_idempotency_key(key: str | None) -> None:
    """Refuses a key that no index should hold.

    Raises:
        InvalidFields: it is none of 1 to 255 visible characters.
    """
    if key is not None and _VISIBLE.fullmatch(key) is None:
        message = "Must be 1 to 255 visible ASCII characters."
        raise InvalidFields(FieldError(field="Idempotency-Key", message=message))


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
