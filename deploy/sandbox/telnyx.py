"""Telnyx: the v2 API under /telnyx, so that a client's base URL ends in /telnyx/v2.

The operations are in telnyx_numbers.py and telnyx_resources.py. What is not documented is refused,
with a comment that says so; telnyx_state.Rules lets a test choose the other answer.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from deploy.sandbox import telnyx_numbers, telnyx_resources
from deploy.sandbox.telnyx_auth import authorize, caller
from deploy.sandbox.telnyx_edit import edit
from deploy.sandbox.telnyx_seed import TelnyxSeed, sow
from deploy.sandbox.telnyx_state import TelnyxState
from deploy.sandbox.telnyx_wire import Context, TelnyxError, error_answer, not_found, ok
from deploy.sandbox.vendor import (
    JSON_TYPE,
    Answer,
    Call,
    Incoming,
    Route,
    Router,
    fingerprint,
    masked,
)

if TYPE_CHECKING:
    from deploy.sandbox.telnyx_state import Account, PhoneNumber, Resource
    from deploy.sandbox.telnyx_wire import Operation


def retrieve_balance(context: Context) -> Answer:
    """The account's balance."""
    balance = context.account.balance
    return ok(
        {
            "record_type": "balance",
            "balance": balance,
            "available_credit": balance,
            "credit_limit": "0.00",
            "pending": "0.00",
            "currency": "USD",
        }
    )


_ROUTES: Final[tuple[Route[Operation], ...]] = (
    Route("telnyx.balance.retrieve", "GET", "/v2/balance", retrieve_balance),
    *telnyx_numbers.ROUTES,
    *telnyx_resources.ROUTES,
)


class Telnyx:
    """The vendor as the server sees it."""

    name = "telnyx"
    mounts = ("telnyx",)

    def __init__(self) -> None:
        self._state = TelnyxState()
        self._router: Final = Router(_ROUTES)

    def understand(self, incoming: Incoming) -> Call:
        """Finds the operation; the key and the body are checked when it runs."""
        owner = caller(self._state, incoming.headers.get("Authorization"))
        account = owner.id if owner is not None else None
        body = _json(incoming)
        fields = body if isinstance(body, Mapping) else {}
        found = self._router.find(incoming.method, incoming.path)
        if found is None:
            # A known path with another method gets no answer of its own in the documentation.
            return Call(
                operation="telnyx.unknown",
                write=incoming.method != "GET",
                account=account,
                fields=lambda: fields,
                run=not_found().answer,
            )
        route, ids = found
        return Call(
            operation=route.operation,
            write=route.write and route.operation != telnyx_numbers.READING_POST,
            account=account,
            fields=lambda: fields,
            run=lambda: self._run(route, incoming, ids, body),
        )

    def error(self, status: int, *, code: int | str | None, message: str | None) -> Answer:
        """Telnyx's error body, with the rate limit headers if it is a 429."""
        return error_answer(status, code, message)

    def garbage(self) -> Answer:
        """A page where JSON was expected."""
        return Answer(status=HTTPStatus.OK, body=b"<html>oops", content_type="text/html")

    def state(self) -> dict[str, object]:
        """All accounts."""
        return {
            "accounts": {
                account.id: _account_document(account) for account in self._state.accounts.values()
            }
        }

    def seed(self, document: object) -> None:
        """Adds accounts. Raises ValueError."""
        sow(self._state, TelnyxSeed.model_validate(document))

    def edit(self, document: object) -> None:
        """Changes a number or another object by hand. Raises ValueError."""
        edit(self._state, document)

    def _run(
        self, route: Route[Operation], incoming: Incoming, ids: dict[str, str], body: object
    ) -> Answer:
        try:
            account = authorize(self._state, incoming.headers.get("Authorization"), route.operation)
            return route.handler(
                Context(
                    state=self._state,
                    account=account,
                    ids=ids,
                    query=incoming.query,
                    body=_checked_body(incoming, body),
                )
            )
        except TelnyxError as refusal:
            return refusal.answer()


def _json(incoming: Incoming) -> object:
    """The body, or None when it is not JSON."""
    if not _is_json(incoming):
        return None
    try:
        return json.loads(incoming.body)
    except ValueError:
        return None


def _is_json(incoming: Incoming) -> bool:
    return incoming.headers.get("Content-Type", "").partition(";")[0].strip() == JSON_TYPE


def _checked_body(incoming: Incoming, body: object) -> Mapping[str, object]:
    """An object; nothing at all is an empty one. Raises TelnyxError."""
    if not incoming.body:
        return {}
    if not _is_json(incoming):
        raise TelnyxError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "10014")
    if not isinstance(body, Mapping):
        raise TelnyxError(HTTPStatus.BAD_REQUEST, "10015")
    return body


def _account_document(account: Account) -> dict[str, object]:
    public = account.signing_key.public_key().public_bytes_raw()
    return {
        "id": account.id,
        "status": account.status,
        "keys": [
            {"fingerprint": fingerprint(key.key), "scopes": key.scopes}
            for key in account.keys.values()
        ],
        "public_key": base64.b64encode(public).decode(),
        "rules": asdict(account.rules),
        "numbers": {
            number.phone_number: _number_document(number) for number in account.numbers.values()
        },
        "released_numbers": list(account.released_numbers),
        "connections": _documents(account.connections),
        "fqdns": _documents(account.fqdns),
        "outbound_voice_profiles": _documents(account.outbound_voice_profiles),
        "messaging_profiles": _documents(account.messaging_profiles),
    }


def _number_document(number: PhoneNumber) -> dict[str, object]:
    """Without its dates: a state is compared with another one."""
    fields = asdict(number)
    return {name: fields[name] for name in fields if name not in {"created", "updated"}}


def _documents(resources: Mapping[str, Resource]) -> dict[str, object]:
    return {name: _document(resource) for name, resource in resources.items()}


def _document(resource: Resource) -> object:
    fields = dict(resource.values)
    if "password" in fields:
        fields["auth_fingerprint"] = fingerprint(resource.text("password"))
    return masked({"id": resource.id, "record_type": resource.record_type, **fields})
