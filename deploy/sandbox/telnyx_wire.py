"""How Telnyx writes: errors, dates, pages.

https://developers.telnyx.com/development/api-fundamentals/api-errors and .../request-response
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from deploy.sandbox.vendor import Answer, json_answer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from deploy.sandbox.telnyx_state import Account, TelnyxState

DEFAULT_PAGE_SIZE: Final = 20
MAX_PAGE_SIZE: Final = 250
PAGE_PARAMETERS: Final = frozenset({"page[number]", "page[size]"})

#: Title and general detail of each code, as the vendor words them.
_WORDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "10001": ("Inactive phone number", "The phone number is inactive."),
        "10003": ("Invalid URL", "The URL provided was invalid, malformed, or too long."),
        "10004": ("Missing required parameter", "A required parameter was missing."),
        "10005": ("Resource not found", "The requested resource or URL could not be found."),
        "10007": ("Unexpected error", "An unexpected error occured."),
        "10008": ("Request timeout", "The request timed out."),
        "10009": (
            "Authentication failed",
            (
                "The required authentication headers were either invalid or not included in the "
                "request."
            ),
        ),
        "10010": (
            "Authorization failed",
            (
                "You do not have permission to perform the requested action on the specified "
                "resource or resources."
            ),
        ),
        "10011": (
            "Too many requests",
            "You have exceeded the maximum number of allowed requests.",
        ),
        "10012": ("Duplicate resource", "Resource is a duplicate."),
        "10014": (
            "Unsupported Media Type",
            "The request failed because the server does not support the media type.",
        ),
        "10015": ("Bad Request", "The request failed because it was not well-formed."),
        "10016": (
            "Phone number must be in +E.164 format",
            "The specified phone number parameter must be in +E.164 format.",
        ),
        "10017": (
            "Associated resource does not exist",
            "The requested parameter is invalid as the associated resource does not exist.",
        ),
    }
)
#: The code of a scripted error that names none.
_CODE_OF_STATUS: Final[Mapping[int, str]] = MappingProxyType(
    {
        400: "10015",
        401: "10009",
        403: "10010",
        404: "10005",
        408: "10008",
        409: "10012",
        415: "10014",
        422: "10015",
        429: "10011",
    }
)
#: The header names are documented, the figures of a real limit are not: .../rate-limiting
_RATE_LIMIT: Final[Mapping[str, str]] = MappingProxyType(
    {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}
)


class TelnyxError(Exception):
    """A request that Telnyx refuses."""

    def __init__(
        self, status: int, code: str, detail: str = "", *, source: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, code, detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.source = source

    def answer(self) -> Answer:
        """The refusal as the client gets it."""
        return error_answer(self.status, self.code, self.detail, self.source)


def error_answer(
    status: int,
    code: int | str | None = None,
    detail: str | None = None,
    source: Mapping[str, str] | None = None,
) -> Answer:
    """Telnyx's error body; what is not given is what the vendor says with this status."""
    code = str(code or _CODE_OF_STATUS.get(status, "10007"))
    title, general = _WORDS.get(code, ("Error", "Error"))
    error: dict[str, object] = {
        "code": code,
        "title": title,
        "detail": detail or general,
        "meta": {"url": f"https://developers.telnyx.com/docs/overview/errors/{code}"},
    }
    if source:
        error["source"] = dict(source)
    headers = _RATE_LIMIT if status == HTTPStatus.TOO_MANY_REQUESTS else {}
    return json_answer(status, {"errors": [error]}, headers)


def refused(pointer: str, detail: str, code: str = "10015") -> TelnyxError:
    """A 422: nearly everything that Telnyx finds wrong with a field, named by its JSON pointer."""
    return TelnyxError(
        HTTPStatus.UNPROCESSABLE_ENTITY, code, detail, source={"pointer": pointer or "/"}
    )


def refused_query(parameter: str, detail: str) -> TelnyxError:
    """A 422 for a query parameter."""
    return TelnyxError(
        HTTPStatus.UNPROCESSABLE_ENTITY, "10015", detail, source={"parameter": parameter}
    )


def not_found() -> TelnyxError:
    """A 404: the resource or the path is not there, or is another account's."""
    return TelnyxError(HTTPStatus.NOT_FOUND, "10005")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One authorised request, as the operations see it."""

    state: TelnyxState
    account: Account
    ids: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, object]


#: What a route leads to.
Operation = Callable[[Context], Answer]
_Item = TypeVar("_Item")


def ok(document: object) -> Answer:
    """200 with the resource."""
    return json_answer(HTTPStatus.OK, {"data": document})


def iso8601(moment: datetime) -> str:
    """Dates as the vendor writes them."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def page(
    query: Mapping[str, str],
    items: Iterable[_Item],
    render: Callable[[_Item], dict[str, object]],
) -> Answer:
    """A page of a list, in the order given; a page after the last is empty."""
    everything = list(items)
    number = _whole_number(query, "page[number]", 1)
    size = _whole_number(query, "page[size]", DEFAULT_PAGE_SIZE)
    if size > MAX_PAGE_SIZE:
        # Documented as the range; whether the vendor refuses or cuts is not.
        raise refused_query("page[size]", f"page[size] must not exceed {MAX_PAGE_SIZE}")
    start = (number - 1) * size
    return json_answer(
        HTTPStatus.OK,
        {
            "data": [render(item) for item in everything[start : start + size]],
            "meta": {
                "page_number": number,
                "page_size": size,
                "total_pages": -(-len(everything) // size),
                "total_results": len(everything),
            },
        },
    )


def _whole_number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise refused_query(name, f"{name} must be a positive number")
    return int(text)
