"""Plivo: the v1 API under /plivo, with Zentrunk, its SIP trunking.

The operations are in plivo_numbers.py, plivo_applications.py and plivo_zentrunk.py.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from deploy.sandbox import plivo_applications as applications
from deploy.sandbox import plivo_numbers as numbers
from deploy.sandbox import plivo_zentrunk as zentrunk
from deploy.sandbox.plivo_auth import authenticate, refuse_without_trunking, username_of
from deploy.sandbox.plivo_edit import edit
from deploy.sandbox.plivo_render import account_document
from deploy.sandbox.plivo_seed import PlivoSeed, sow
from deploy.sandbox.plivo_state import PlivoState
from deploy.sandbox.plivo_wire import (
    Context,
    PlivoError,
    error_answer,
    not_found,
    ok,
    refused,
)
from deploy.sandbox.vendor import (
    MASK,
    Answer,
    Call,
    Incoming,
    Route,
    Router,
    fingerprint,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.sandbox.plivo_state import Account, Credential, OriginationUri
    from deploy.sandbox.plivo_wire import Operation


def fetch_account(context: Context) -> Answer:
    """Whoever asks; the cheapest proof that credentials work."""
    return ok(account_document(context))


_ACCOUNT: Final = "/v1/Account/{auth_id}/"
_NUMBER: Final = f"{_ACCOUNT}Number/{{number}}/"
_APPLICATIONS: Final = f"{_ACCOUNT}Application/"
_APPLICATION: Final = f"{_APPLICATIONS}{{app_id}}/"

#: Every path ends with a slash. What the vendor makes of one without it is not documented; 404.
ROUTES: Final[tuple[Route[Operation], ...]] = (
    Route("plivo.account.fetch", "GET", _ACCOUNT, fetch_account),
    Route("plivo.numbers.list", "GET", f"{_ACCOUNT}Number/", numbers.index),
    Route("plivo.numbers.fetch", "GET", _NUMBER, numbers.fetch),
    Route("plivo.numbers.update", "POST", _NUMBER, numbers.update),
    Route("plivo.numbers.delete", "DELETE", _NUMBER, numbers.delete),
    Route("plivo.numbers.buy", "POST", f"{_ACCOUNT}PhoneNumber/{{number}}/", numbers.buy),
    Route("plivo.applications.list", "GET", _APPLICATIONS, applications.index),
    Route("plivo.applications.create", "POST", _APPLICATIONS, applications.create),
    Route("plivo.applications.fetch", "GET", _APPLICATION, applications.fetch),
    Route("plivo.applications.update", "POST", _APPLICATION, applications.update),
    Route("plivo.applications.delete", "DELETE", _APPLICATION, applications.delete),
    *zentrunk.ROUTES,
)


class Plivo:
    """The vendor as the server sees it."""

    name = "plivo"
    mounts = ("plivo",)

    def __init__(self) -> None:
        self._state = PlivoState()
        self._router: Final = Router(ROUTES)

    def understand(self, incoming: Incoming) -> Call:
        """Finds the operation; credentials and body are checked when it runs."""
        found = self._router.find(incoming.method, incoming.path)
        if found is None:
            known = self._router.knows(incoming.path)
            status = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND
            answer = error_answer(status) if known else not_found().answer()
            return Call(
                operation="plivo.unknown",
                write=incoming.method != "GET",
                account=username_of(incoming.headers.get("Authorization")),
                fields=lambda: _journaled(incoming),
                run=lambda: answer,
            )
        route, ids = found
        return Call(
            operation=route.operation,
            write=route.write,
            account=ids["auth_id"],
            fields=lambda: _journaled(incoming),
            run=lambda: self._run(route, incoming, ids),
        )

    def error(self, status: int, *, code: int | str | None, message: str | None) -> Answer:
        """Plivo's error body, which has no place for a code other than in the text."""
        text = message if code is None else f"{code} {message or ''}".strip()
        return error_answer(status, text)

    def garbage(self) -> Answer:
        """A page where JSON was expected; the vendor's SDK makes a None of it."""
        return Answer(status=HTTPStatus.OK, body=b"<html>oops", content_type="text/html")

    def state(self) -> dict[str, object]:
        """All accounts."""
        return {
            "accounts": {
                account.auth_id: _account_document(account)
                for account in self._state.accounts.values()
            }
        }

    def seed(self, document: object) -> None:
        """Adds accounts. Raises ValueError."""
        sow(self._state, PlivoSeed.model_validate(document))

    def edit(self, document: object) -> None:
        """Changes a number, an application or a part of Zentrunk by hand. Raises ValueError."""
        edit(self._state, document)

    def _run(self, route: Route[Operation], incoming: Incoming, ids: dict[str, str]) -> Answer:
        auth_id = ids["auth_id"]
        try:
            principal = authenticate(self._state, incoming.headers.get("Authorization"), auth_id)
            if route.operation.startswith("plivo.zentrunk_"):
                refuse_without_trunking(principal)
            return route.handler(
                Context(
                    state=self._state,
                    account=principal.account,
                    sub_account=principal.sub_account,
                    auth_id=auth_id,
                    path=incoming.path,
                    ids=ids,
                    query=incoming.query,
                    body=_body(incoming),
                )
            )
        except PlivoError as refusal:
            return refusal.answer()


def _body(incoming: Incoming) -> dict[str, object]:
    """Only a JSON object is taken: "Plivo only accepts input of the type application/json".

    The status of a refusal is not documented. Raises PlivoError.
    """
    if not incoming.body:
        return {}
    content_type = incoming.headers.get("Content-Type", "").partition(";")[0].strip()
    try:
        document = json.loads(incoming.body)
    except ValueError as problem:
        raise refused("the body is not JSON") from problem
    if content_type != "application/json" or not isinstance(document, dict):
        raise refused("the body must be a JSON object of type application/json")
    return document


def _journaled(incoming: Incoming) -> Mapping[str, object]:
    try:
        return _body(incoming)
    except PlivoError:
        return {}


def _account_document(account: Account) -> dict[str, object]:
    trunks = account.zentrunk
    numbers_at = defaultdict[str, list[str]](list)
    for number in account.numbers.values():
        numbers_at[number.app_id].append(number.number)
    return {
        "auth_id": account.auth_id,
        "account_type": account.account_type,
        "sip_trunking": account.sip_trunking,
        "subaccounts": {
            item.auth_id: {"name": item.name, "enabled": item.enabled}
            for item in account.subaccounts.values()
        },
        "numbers": {item.number: asdict(item) for item in account.numbers.values()},
        "released_numbers": list(account.released_numbers),
        "applications": {item.id: asdict(item) for item in account.applications.values()},
        "endpoints": dict(account.endpoints),
        "zentrunk": {
            "uris": {item.id: _secretive(item) for item in trunks.uris.values()},
            "credentials": {item.id: _secretive(item) for item in trunks.credentials.values()},
            "ip_access_control_lists": {
                item.id: asdict(item) for item in trunks.access_lists.values()
            },
            "trunks": {
                item.id: {
                    **asdict(item),
                    "broken": trunks.is_broken(item),
                    "numbers": numbers_at[item.id],
                }
                for item in trunks.trunks.values()
            },
        },
    }


def _secretive(item: OriginationUri | Credential) -> dict[str, object]:
    return {
        **asdict(item),
        "password": MASK if item.password else "",
        "fingerprint": fingerprint(item.password),
    }
