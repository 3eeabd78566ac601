"""Who may do what at Twilio, after twilio.com/docs/iam/api-keys and /docs/iam/api/subaccounts."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal

from deploy.sandbox.twilio_wire import TwilioError, refused

if TYPE_CHECKING:
    from deploy.sandbox.twilio_state import Account, AccountStatus, KeyKind, TwilioState

ACCOUNT_SID: Final = re.compile(r"AC[0-9a-fA-F]{32}")

#: The only operation that still works on a suspended account: its status must be readable.
_ALLOWED_WHEN_SUSPENDED: Final = "twilio.accounts.fetch"


_TRUNKING: Final = ("twilio.trunk", "twilio.origination_urls.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Proven credentials."""

    account: Account
    kind: Literal["primary_token", "secondary_token"] | KeyKind
    permissions: tuple[str, ...] = ()

    @property
    def is_token(self) -> bool:
        """Account SID and auth token, as opposed to an API key."""
        return self.kind in {"primary_token", "secondary_token"}

    def may(self, operation: str) -> bool:
        """Whether a key of this kind is allowed the operation at all."""
        match self.kind:
            case "restricted":
                # The products that restricted keys cover do not include Elastic SIP Trunking:
                # https://www.twilio.com/docs/iam/api-keys/restricted-api-keys
                if operation.startswith(_TRUNKING):
                    return False
                return any(fnmatchcase(operation, pattern) for pattern in self.permissions)
            case "standard":
                # Standard keys may not read or manage /Accounts and /Keys.
                return not operation.startswith("twilio.accounts.")
            case _:
                return True


def unauthenticated() -> TwilioError:
    """What Twilio says to wrong credentials, wrong accounts and closed accounts alike.

    https://www.twilio.com/docs/api/errors/20003
    """
    return TwilioError(HTTPStatus.UNAUTHORIZED, 20003, "Authenticate")


def username_of(header: str | None) -> str | None:
    """The Basic user name, unproven: enough to say whose account a request is about."""
    pair = _basic_pair(header)
    return pair[0] if pair else None


def authenticate(state: TwilioState, header: str | None) -> Principal:
    """Proves account SID and token, or key SID and secret. Raises TwilioError."""
    pair = _basic_pair(header)
    if pair is None:
        raise unauthenticated()
    user, secret = pair
    account = state.accounts.get(user)
    if account is not None and secret:
        if secret == account.auth_token:
            return Principal(account=account, kind="primary_token")
        if secret == account.secondary_auth_token:
            return Principal(account=account, kind="secondary_token")
    owner = state.key_owners.get(user)
    if owner is not None:
        key = owner.api_keys[user]
        if secret == key.secret:
            return Principal(account=owner, kind=key.kind, permissions=key.permissions)
    raise unauthenticated()


def authorize(
    state: TwilioState, principal: Principal, account_sid: str, operation: str
) -> Account:
    """The addressed account, when the principal may do this to it. Raises TwilioError."""
    if ACCOUNT_SID.fullmatch(account_sid) is None:
        # A client with an API key but without an account SID puts the key's SID into the path.
        raise refused(90002, f"AccountSid {account_sid} is invalid")
    account = state.accounts.get(account_sid)
    if account is None or not _reaches(principal, account):
        raise unauthenticated()
    if not principal.may(operation):
        if principal.kind == "restricted":
            # https://www.twilio.com/docs/api/errors/70051; its HTTP status is not documented.
            raise TwilioError(HTTPStatus.UNAUTHORIZED, 70051, "Authorization Failed")
        raise unauthenticated()
    _refuse_inactive(state, principal, account, operation)
    return account


def _reaches(principal: Principal, account: Account) -> bool:
    """A parent's token reaches its subaccounts; a parent's API keys do not."""
    if account is principal.account:
        return True
    return principal.is_token and account.owner_account_sid == principal.account.sid


def _refuse_inactive(
    state: TwilioState, principal: Principal, account: Account, operation: str
) -> None:
    """Closed and suspended accounts.

    Documented are 20003 for both and 20005 "Account not active" without their HTTP status. Here a
    closed account's own credentials are dead, a suspended account can still be fetched, and a
    subaccount is suspended with its parent.
    """
    if _effective_status(state, principal.account) == "closed":
        raise unauthenticated()
    inactive = _effective_status(state, account) != "active"
    if inactive and operation != _ALLOWED_WHEN_SUSPENDED:
        raise TwilioError(HTTPStatus.UNAUTHORIZED, 20005, "Account not active")


def _effective_status(state: TwilioState, account: Account) -> AccountStatus:
    owner = state.accounts.get(account.owner_account_sid)
    if account.status == "active" and owner is not None:
        return owner.status
    return account.status


def _basic_pair(header: str | None) -> tuple[str, str] | None:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, secret) if colon else None
