"""How Plivo writes: errors, answers, lists, after plivo.com/docs/sip-trunking/api/overview."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlencode

from deploy.sandbox.plivo_state import new_uuid
from deploy.sandbox.vendor import Answer, json_answer

if TYPE_CHECKING:
    from deploy.sandbox.plivo_state import Account, Application, Number, PlivoState

#: "limit can range between 1 and 20, and the default is 20."
MAX_LIMIT: Final = 20
_PAGE_PARAMETERS: Final = frozenset({"limit", "offset"})


class PlivoError(Exception):
    """A request that Plivo refuses."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message

    def answer(self) -> Answer:
        """The refusal as the client gets it."""
        return error_answer(self.status, self.message)


def error_answer(status: int, message: str | None = None) -> Answer:
    """Plivo's error body, which has no code. A 401 is plain text, and its words are a guess."""
    if status == HTTPStatus.UNAUTHORIZED:
        return Answer(
            status=status,
            body=(message or "Could not verify your access level for that URL.").encode(),
            content_type="text/plain",
            headers={"WWW-Authenticate": 'Basic realm="Login Required"'},
        )
    text = responses.get(status, "error") if message is None else message
    return json_answer(status, {"api_id": new_uuid(), "error": text})


def refused(message: str) -> PlivoError:
    """A 400: "A parameter is missing or is invalid"."""
    return PlivoError(HTTPStatus.BAD_REQUEST, message)


def not_found() -> PlivoError:
    """A 404, in the words of github.com/plivo/plivo-node/issues/144."""
    return PlivoError(HTTPStatus.NOT_FOUND, "not found")


def in_use(message: str) -> PlivoError:
    """A 409, for what this sandbox refuses because the vendor does not say what would happen."""
    return PlivoError(HTTPStatus.CONFLICT, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One authorised request, as the operations see it."""

    state: PlivoState
    #: The main account, whoever asks.
    account: Account
    #: The sub-account that asks; None when it is the main account.
    sub_account: str | None
    #: The auth id in the path, which is the one that asks.
    auth_id: str
    #: Path below the mount, as the vendor would write it into URIs.
    path: str
    ids: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, object]

    def sees(self, item: Number | Application) -> bool:
        """A sub-account has only what is marked as its own; the main account has everything."""
        return self.sub_account is None or item.sub_account == self.sub_account


#: What a route leads to.
Operation = Callable[[Context], Answer]
_Item = TypeVar("_Item")


def ok(document: Mapping[str, object]) -> Answer:
    """200 with the resource."""
    return json_answer(HTTPStatus.OK, {"api_id": new_uuid(), **document})


def created(message: str, **ids: str) -> Answer:
    """201 with the id of the new resource, not the resource."""
    return json_answer(HTTPStatus.CREATED, {"api_id": new_uuid(), "message": message, **ids})


def changed(message: str = "changed", **ids: str) -> Answer:
    """202: the change is made when it is answered here; that it is at the vendor is not said."""
    return json_answer(HTTPStatus.ACCEPTED, {"api_id": new_uuid(), "message": message, **ids})


def deleted() -> Answer:
    """204 without a body."""
    return Answer(status=HTTPStatus.NO_CONTENT)


def only(context: Context, filters: Collection[str]) -> Mapping[str, str]:
    """The query's filters.

    What the vendor does with a parameter that it does not know is not documented. Here it is
    refused: an ignored filter must not look like one that found everything. Raises PlivoError.
    """
    if unknown := context.query.keys() - _PAGE_PARAMETERS - set(filters):
        raise refused(f"unknown parameters: {', '.join(sorted(unknown))}")
    return {name: text for name, text in context.query.items() if name in filters}


def page(
    context: Context,
    items: Iterable[_Item],
    render: Callable[[_Item], dict[str, object]],
    *,
    link: str,
) -> Answer:
    """A page of a list; `link` is how the vendor writes the list's own address.

    The order is not documented. Newest first, so that no client relies on finding its own last.
    """
    limit = _whole_number(context.query, "limit", MAX_LIMIT)
    offset = _whole_number(context.query, "offset", 0)
    if not 1 <= limit <= MAX_LIMIT:
        raise refused(f"limit must be from 1 to {MAX_LIMIT}")
    everything = list(items)
    everything.reverse()
    total = len(everything)

    def at(position: int) -> str:
        return f"{link}?{urlencode({**context.query, 'limit': limit, 'offset': position})}"

    return ok(
        {
            "meta": {
                "limit": limit,
                "offset": offset,
                "total_count": total,
                "next": at(offset + limit) if offset + limit < total else None,
                "previous": at(max(offset - limit, 0)) if offset else None,
            },
            "objects": [render(item) for item in everything[offset : offset + limit]],
        }
    )


def _whole_number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal():
        raise refused(f"{name} must be a whole number")
    return int(text)
