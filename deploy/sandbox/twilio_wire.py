"""How Twilio writes: errors, dates, pages, after twilio.com/docs/usage/twilios-response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlencode

from deploy.sandbox.vendor import Answer, json_answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from deploy.sandbox.twilio_auth import Principal
    from deploy.sandbox.twilio_state import Account, TwilioState

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1000
PAGE_PARAMETERS: Final = frozenset({"Page", "PageSize", "PageToken"})

#: https://www.twilio.com/docs/api/errors; for a status without its own code see `error_answer`.
_GENERAL_CODES: Final = {
    400: (20001, "Invalid parameter"),
    401: (20003, "Authenticate"),
    403: (20403, "Forbidden"),
    404: (20404, "The requested resource was not found"),
    405: (20004, "Method not allowed"),
    409: (20409, "Conflict"),
    429: (20429, "Too Many Requests"),
    500: (20500, "Internal Server Error"),
    503: (20503, "Service is unavailable, please try again"),
}


class TwilioError(Exception):
    """A request that Twilio refuses."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message

    def answer(self) -> Answer:
        """The refusal as the client gets it."""
        return error_answer(self.status, self.code, self.message)


def error_answer(status: int, code: int | str | None = None, message: str | None = None) -> Answer:
    """Twilio's error body; a code or message that is not given is the general one of the status."""
    general_code, general_message = _GENERAL_CODES.get(status, (status, "Error"))
    code = general_code if code is None else code
    headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if status == 401 else {}  # noqa: PLR2004 - HTTP
    return json_answer(
        status,
        {
            "code": code,
            "message": general_message if message is None else message,
            "more_info": f"https://www.twilio.com/docs/errors/{code}",
            "status": status,
        },
        headers,
    )


def refused(code: int, message: str) -> TwilioError:
    """A 400: nearly everything that Twilio finds wrong with a body."""
    return TwilioError(HTTPStatus.BAD_REQUEST, code, message)


def not_found(path: str) -> TwilioError:
    """A 404 in the words that Twilio uses on every API."""
    return TwilioError(HTTPStatus.NOT_FOUND, 20404, f"The requested resource {path} was not found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One authorised request, as the operations see it."""

    state: TwilioState
    #: Whose resources are addressed.
    account: Account
    #: Who asks.
    principal: Principal
    #: Path below the mount, as the vendor would write it into URIs.
    path: str
    base_url: str
    ids: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]

    def missing(self) -> TwilioError:
        """The addressed resource is not there."""
        return not_found(self.path)


#: What a route leads to.
Operation = Callable[[Context], Answer]
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class _Window:
    """One page of a list."""

    items: list[dict[str, object]]
    number: int
    size: int
    start: int
    #: Query of the next page, None on the last.
    next_query: str | None
    first_query: str


def created(document: object) -> Answer:
    """201 with the new resource."""
    return json_answer(HTTPStatus.CREATED, document)


def ok(document: object) -> Answer:
    """200 with the resource."""
    return json_answer(HTTPStatus.OK, document)


def deleted() -> Answer:
    """204 without a body."""
    return Answer(status=HTTPStatus.NO_CONTENT)


def rfc2822(moment: datetime) -> str:
    """Dates of the 2010 API."""
    return format_datetime(moment)


def iso8601(moment: datetime) -> str:
    """Dates of the product APIs."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def page_2010(
    context: Context,
    key: str,
    items: Iterable[_Item],
    sid: Callable[[_Item], str],
    render: Callable[[_Item], dict[str, object]],
) -> Answer:
    """A list of the 2010 API; its URIs are relative to the API's host."""
    window = _window(context, items, sid, render)
    return ok(
        {
            key: window.items,
            "page": window.number,
            "page_size": window.size,
            "start": window.start,
            "end": window.start + max(len(window.items) - 1, 0),
            "uri": _with_query(context.path, context.query),
            "first_page_uri": f"{context.path}?{window.first_query}",
            "previous_page_uri": None,
            "next_page_uri": window.next_query and f"{context.path}?{window.next_query}",
        }
    )


def page_v1(
    context: Context,
    key: str,
    items: Iterable[_Item],
    sid: Callable[[_Item], str],
    render: Callable[[_Item], dict[str, object]],
) -> Answer:
    """A list of a product API; its URLs are absolute and clients follow them as they are."""
    window = _window(context, items, sid, render)
    url = f"{context.base_url}{context.path}"
    return ok(
        {
            key: window.items,
            "meta": {
                "key": key,
                "page": window.number,
                "page_size": window.size,
                "url": _with_query(url, context.query),
                "first_page_url": f"{url}?{window.first_query}",
                "previous_page_url": None,
                "next_page_url": window.next_query and f"{url}?{window.next_query}",
            },
        }
    )


def _window(
    context: Context,
    items: Iterable[_Item],
    sid: Callable[[_Item], str],
    render: Callable[[_Item], dict[str, object]],
) -> _Window:
    # Newest first, as the vendor lists; a client must not rely on finding its own object last.
    everything = list(items)
    everything.reverse()
    size = _whole_number(context.query.get("PageSize"), DEFAULT_PAGE_SIZE)
    number = _whole_number(context.query.get("Page"), 0)
    if size < 1:
        raise refused(20001, "PageSize must be a positive number")
    if size > MAX_PAGE_SIZE:
        raise refused(20007, "Page size too large")
    start = _start_of_page(everything, sid, number, context.query.get("PageToken"))
    shown = everything[start : start + size]
    filters = {name: value for name, value in context.query.items() if name not in PAGE_PARAMETERS}
    more = start + size < len(everything)
    return _Window(
        items=[render(item) for item in shown],
        number=number,
        size=size,
        start=start,
        next_query=urlencode(
            {**filters, "PageSize": size, "Page": number + 1, "PageToken": f"PA{sid(shown[-1])}"}
        )
        if more
        else None,
        first_query=urlencode({**filters, "PageSize": size, "Page": 0}),
    )


def _with_query(address: str, query: Mapping[str, str]) -> str:
    return f"{address}?{urlencode(query)}" if query else address


def _start_of_page(
    items: list[_Item], sid: Callable[[_Item], str], number: int, token: str | None
) -> int:
    """A page beyond the first is reached only by the token that the page before it gave out.

    https://www.twilio.com/docs/api/errors/21481. What happens when the item that a token names was
    deleted meanwhile is not documented; here the token is then invalid.
    """
    if token is None and number == 0:
        return 0
    for position, item in enumerate(items):
        if token == f"PA{sid(item)}":
            return position + 1
    raise refused(21481, "Invalid PageToken")


def _whole_number(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal():
        raise refused(20001, f"{text} is not a number")
    return int(text)
