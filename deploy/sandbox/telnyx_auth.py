"""Who may do what at Telnyx: a bearer key is an account, and perhaps only a part of it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import TYPE_CHECKING

from deploy.sandbox.telnyx_wire import TelnyxError

if TYPE_CHECKING:
    from deploy.sandbox.telnyx_state import Account, TelnyxState


def caller(state: TelnyxState, header: str | None) -> Account | None:
    """The account of the key, if the key is known."""
    return state.key_owners.get(_key(header))


def authorize(state: TelnyxState, header: str | None, operation: str) -> Account:
    """The account, when the key may do this to it. Raises TelnyxError."""
    account = caller(state, header)
    if account is None:
        raise TelnyxError(HTTPStatus.UNAUTHORIZED, "10009")
    scopes = account.keys[_key(header)].scopes
    if scopes is not None and not any(fnmatchcase(operation, pattern) for pattern in scopes):
        raise TelnyxError(HTTPStatus.FORBIDDEN, "10010")
    if account.status != "active":
        # How the vendor answers for a suspended account is not documented; here nothing works.
        raise TelnyxError(HTTPStatus.FORBIDDEN, "10010", "Account is suspended")
    return account


def _key(header: str | None) -> str:
    scheme, _, key = (header or "").partition(" ")
    return key if scheme.lower() == "bearer" else ""
