"""Who may do what at Plivo: auth id and token, of a main account or of a sub-account.

What a sub-account may do beyond its own numbers and applications is not documented. Here the path
must name whoever asks, for main accounts too, and Zentrunk is for main accounts.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from deploy.sandbox.plivo_wire import PlivoError

if TYPE_CHECKING:
    from deploy.sandbox.plivo_state import Account, PlivoState


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Proven credentials."""

    account: Account
    #: None when the credentials are the main account's.
    sub_account: str | None


def username_of(header: str | None) -> str | None:
    """The Basic user name, unproven: enough to say whose account a request is about."""
    pair = _basic_pair(header)
    return pair[0] if pair else None


def authenticate(state: PlivoState, header: str | None, auth_id: str) -> Principal:
    """Proves auth id and token, and that the path names the same auth id. Raises PlivoError."""
    user, token = _basic_pair(header) or ("", "")
    if not token or user != auth_id:
        raise _unauthenticated()
    account = state.accounts.get(user)
    if account is not None and account.auth_token == token:
        return Principal(account=account, sub_account=None)
    owner = state.owners.get(user)
    if owner is not None:
        subaccount = owner.subaccounts[user]
        if subaccount.enabled and subaccount.auth_token == token:
            return Principal(account=owner, sub_account=user)
    raise _unauthenticated()


def refuse_without_trunking(principal: Principal) -> None:
    """403: "SIP trunking not enabled" (plivo.com/docs/sip-trunking/api/overview)."""
    if principal.sub_account is not None or not principal.account.sip_trunking:
        raise PlivoError(HTTPStatus.FORBIDDEN, "SIP trunking is not enabled for this account")


def _unauthenticated() -> PlivoError:
    return PlivoError(
        HTTPStatus.UNAUTHORIZED,
        "Could not verify your access level for that URL.\n"
        "You have to login with proper credentials",
    )


def _basic_pair(header: str | None) -> tuple[str, str] | None:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, secret) if colon else None
